"""Store a lowered graph: structure in one small file, weights by reference into files that graphs share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import onnx_ir as ir

from stts_export.graph.passes.store_transposed import SOURCE, TRANSFORM


class Stored(Protocol):
    """Where a weight's bytes lie: file relative to the graph, offset and length in bytes."""

    @property
    def file(self) -> str: ...  # noqa: D102
    @property
    def offset(self) -> int: ...  # noqa: D102
    @property
    def length(self) -> int: ...  # noqa: D102


Store = Callable[[str, str, str], Stored]
"""(weight name, transform, dtype name) -> where its bytes lie; the same answer for the same question.

The transform is `as_is`, `transposed`, or a part of a rounded weight, see `stored_part`.
"""


def write_graph(model: ir.Model, path: Path, store: Store) -> None:
    """Write `model` to `path`; every weight without data is asked of `store` and referred to as external data.

    Raises:
        OSError: the file cannot be written.
    """
    for name, value in model.graph.initializers.items():
        if value.const_value is not None:
            continue
        assert value.shape is not None
        assert value.dtype is not None
        source, transform = value.metadata_props.get(SOURCE, name), value.metadata_props.get(TRANSFORM, "as_is")
        stored = store(source, transform, value.dtype.numpy().name)
        value.const_value = ir.ExternalTensor(
            stored.file,
            stored.offset,
            stored.length,
            value.dtype,
            shape=value.shape,
            name=name,
            base_dir=str(path.parent),
        )
    ir.save(model, path)
