"""What a graph must give a TensorRT plugin of ours; checked by us, as TensorRT's error names neither node nor type."""

from __future__ import annotations

from dataclasses import dataclass


HALVES = ("float16", "bfloat16")
FLOATS = (*HALVES, "float32")


@dataclass(frozen=True)
class Plugin:
    """The plugin of an operator, as its contract says it."""

    operator: str  # of the `stts` domain; the plugin's own name is `name`
    inputs: tuple[tuple[str, tuple[str, ...]], ...]  # name, and the dtypes that it may have
    outputs: tuple[tuple[str, str], ...]  # name, and its dtype or the input that it is like
    attributes: tuple[str, ...] = ()  # beside `contract`
    alike: tuple[str, ...] = ()  # inputs that have one dtype
    head_widths: tuple[int, ...] = ()  # which there are kernels for; any where none is said

    @property
    def name(self) -> str:
        """What TensorRT looks for; no standard operator and no function body of ours is called like it."""
        return f"Stts{self.operator}"
