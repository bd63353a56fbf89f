"""How long each stage took and how many tokens went through it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


STAGES = (
    "read_video",
    "read_images",
    "preprocessing",
    "vision_score",
    "plan",
    "vision_encode",
    "vision_dense",
    "vision_image",
    "prefill",
    "decode",
)
"""In the order they run: decoding and resizing, patches, the engines and the plan between them, the answer."""


@dataclass
class Timings:
    """What one question cost.

    Attributes:
        milliseconds: wall time by stage; stages that did not run are absent.
        tokens: counts by name: `frames` (or `images` and `crops`), `groups`, `kept_groups`, `patches`,
            `packed_patches`, `prompt_tokens`, `answer_tokens`.
        finish_reason: why the answer ended: `stop`, as the model said so, or `length`, as it was cut; None before.
    """

    milliseconds: dict[str, float] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)
    finish_reason: str | None = None

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time of the `with` block to stage `name`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            elapsed = 1e3 * (time.perf_counter() - start)
            self.milliseconds[name] = self.milliseconds.get(name, 0.0) + elapsed
