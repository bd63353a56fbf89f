"""The kernels that were packed, and how each is launched: from kernels.json, written when Triton compiled."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kernels.driver import DeviceArray, Gpu, NotCheckableError
from stts_runtime.bundle.plugin_page import PluginPage


CUDA_CPP = {
    "group_pool": (256, "query:* key:* value:* pooled:* across:i32 pool:i32 width:i32 heads:i32"),
    "group_score": (256, "hidden:* previous:* scores:* last:* groups:i32 across:i32 pool:i32 width:i32"),
    "select_groups": (
        1024,
        "scores:* frames:i32 groups:i32 kept:i32 keep:* order:* cumulative_groups:* scratch:*",
    ),
    "pack_tokens": (256, "hidden:* order:* packed:* groups:i64 across:i32 pool:i32 width:i32"),
}
"""Threads of a block and parameters of the kernels that Triton did not make, as kernel.cu and plugin.cpp have them."""

_FIRST_OF_ONE_GPU = 90  # what Triton compiles from here on runs on no other GPU


@dataclass(frozen=True)
class Entry:
    """How a kernel is launched, beside its grid."""

    threads: int
    shared_bytes: int
    tile: int  # rows of a program along the grid's first axis
    parameters: tuple[tuple[str, str, int | None], ...]  # name, type, bytes behind it where it is scratch memory


class Images:
    """The kernels of one operator for the GPU at hand."""

    def __init__(self, folder: Path, operator: str, gpu: Gpu) -> None:
        """Load them.

        Raises:
            NotCheckableError: none were packed for this GPU.
            CudaError: the driver does not take them.
        """
        self.gpu = gpu
        said = json.loads((folder / "kernels.json").read_text())["images"]
        own = {image["sm"]: image for image in said if image["operator"] == operator}
        by_triton = bool(own)
        sms = set(own) or {int(path.stem.rpartition("-")[2]) for path in folder.glob(f"{operator}-*.cubin")}
        sm = PluginPage(0, "", tuple(sms), {}).sm_for(gpu.sm)
        if sm is None or (by_triton and sm >= _FIRST_OF_ONE_GPU and sm != gpu.sm):
            packed = ", ".join(map(str, sorted(sms))) or "none"
            raise NotCheckableError(
                f"this GPU is SM {gpu.sm}, and {operator} was packed for SM {packed}: make gpu-pack SMS={gpu.sm}"
            )
        self.sm = sm
        self._module = gpu.module((folder / f"{operator}-{sm}.cubin").read_bytes())
        self._entries = {one["launch"]["entry"]: _entry(one) for one in own[sm]["entries"]} if by_triton else {}
        self._functions: dict[str, Any] = {}
        if not by_triton:
            threads, parameters = CUDA_CPP[operator]
            pairs = [word.split(":") for word in parameters.split()]
            self._any = Entry(threads, 0, 1, tuple((name, kind, None) for name, kind in pairs))

    def entry(self, name: str) -> Entry:
        """Return how an entry is launched.

        Raises:
            NotCheckableError: there is no such entry; heads of another width have none.
        """
        if not self._entries:
            return self._any
        if name not in self._entries:
            raise NotCheckableError(f"no kernel is called {name}: there are {', '.join(self._entries)}")
        return self._entries[name]

    def launcher(
        self, name: str, grid: tuple[int, int, int], arguments: Mapping[str, DeviceArray | float | None]
    ) -> Callable[[], None]:
        """Return what launches an entry with arguments by the names of its parameters."""
        entry = self.entry(name)
        wanted = [one for one, _, behind in entry.parameters if behind is None]
        assert set(arguments) == set(wanted), f"{name} takes {wanted}, and is given {list(arguments)}"
        if name not in self._functions:
            self._functions[name] = self.gpu.function(self._module, name, entry.shared_bytes)
        values = [(kind, self._value(arguments.get(one), behind)) for one, kind, behind in entry.parameters]
        return self.gpu.launcher(self._functions[name], grid, entry.threads, entry.shared_bytes, values)

    def _value(self, given: DeviceArray | float | None, scratch_bytes: int | None) -> float:
        if scratch_bytes is not None:  # Triton's own: null serves where nothing lies behind it
            return self.gpu.empty((scratch_bytes,), "bool").pointer if scratch_bytes else 0
        return given.pointer if isinstance(given, DeviceArray) else given or 0


def _entry(said: Mapping[str, Any]) -> Entry:
    launch = said["launch"]
    parameters = tuple((one["name"], one["type"], one.get("bytes_behind")) for one in said["parameters"])
    return Entry(launch["threads"], launch["shared_bytes"], launch["tile"], parameters)
