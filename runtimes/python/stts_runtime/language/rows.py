"""Several conversations decoded together: their caches side by side, a row each, and one run for a token of all.

A step takes its time to read the weights, whether for one token or for eight.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stts_runtime.bundle.manifest import Manifest
from stts_runtime.engine import Array, Engine
from stts_runtime.engine.memory import new_array
from stts_runtime.errors import LimitError
from stts_runtime.language.generation import Decoding
from stts_runtime.language.kv_cache import EMPTY_POSITION, PAST, ROOM_STEP, KvCache, RowCache, new_name


class Rows:
    """Conversations that are decoded together, see `parts/decoder_rows.py` of the exporter for the graph."""

    def __init__(self, engine: Engine, manifest: Manifest) -> None:
        """Hold none yet; `engine` is that of `decoder_rows`."""
        spec = manifest.graphs["decoder_rows"].spec
        self._engine, self._limits, self._spec = engine, manifest.limits, spec
        self._vocabulary = manifest.decoder.vocabulary
        self._tensors = [tensor for tensor in spec.inputs if tensor.name.startswith(PAST)]
        self._new_names = {tensor.name: new_name(tensor) for tensor in self._tensors}
        self._held: list[Decoding] = []
        self._buffers: dict[str, Array] = {}
        self._positions = np.zeros((0, 0), np.int64)
        self._new: dict[str, Array] = {}

    def __contains__(self, decoding: Decoding) -> bool:
        return decoding in self._held

    def step(self, decodings: Sequence[Decoding]) -> NDArray[np.float32]:
        """Read the last token of each answer, and return the logits of the next ones, float32 [R, vocabulary].

        Args:
            decodings: each with a token that it has said and not read; who is not held yet joins, and who is held and
                is not among them has to have left.

        Raises:
            LimitError: more conversations than the bundle was built for, or one that is too long.
            EngineError: the engine failed.
        """
        for decoding in decodings:
            if decoding not in self:
                self._join(decoding)
        assert len(decodings) == len(self._held), "rows that nobody decodes"
        count = len(self._held)
        lengths = np.array([decoding.cache.length for decoding in self._held], np.int64)
        self._make_room(count, int(lengths.max()) + 1)
        logits = np.empty((count, self._vocabulary), np.float32)
        self._engine.run(
            {
                "token_ids": np.array([decoding.unread for decoding in self._held], np.int64),
                "positions": lengths,
                "rope_positions": lengths + np.array([decoding.rope_offset for decoding in self._held], np.int64),
                "past_positions": self._positions[:count],
                **{name: buffer[0:count] for name, buffer in self._buffers.items()},
            },
            {"logits": logits, **{name: array[0:count] for name, array in self._new.items()}},
        )
        for row, decoding in enumerate(self._held):
            for name, new in self._new_names.items():
                one, entries = self._buffers[name][row : row + 1], self._new[new][row : row + 1]
                self._engine.memory.copy_tokens(one, decoding.cache.length, entries, 1)
            self._positions[row, decoding.cache.length] = decoding.cache.length
            decoding.was_read()
        return logits[[self._held.index(decoding) for decoding in decodings]]

    def leave(self, decoding: Decoding, keep: bool) -> None:
        """Let a conversation go, with a cache of its own again if it is to be kept."""
        row = self._held.index(decoding)
        if keep:
            decoding.cache = self._own_cache(decoding, row)
        last = len(self._held) - 1
        if row < last:
            length = self._held[last].cache.length
            for buffer in self._buffers.values():
                self._engine.memory.copy_tokens(buffer[row : row + 1], 0, buffer[last : last + 1], length)
            self._positions[row] = self._positions[last]
        self._positions[last] = EMPTY_POSITION
        self._held[row] = self._held[last]
        self._held.pop()

    def _join(self, decoding: Decoding) -> None:
        row, cache = len(self._held), decoding.cache
        assert isinstance(cache, KvCache)
        self._make_room(row + 1, cache.length + 1)
        past = cache.past()
        for name, buffer in self._buffers.items():
            self._engine.memory.copy_tokens(buffer[row : row + 1], 0, past[name], cache.length)
        self._positions[row, : cache.length] = np.arange(cache.length)
        decoding.cache = RowCache(cache.length, cache.vision_flags)
        self._held.append(decoding)

    def _own_cache(self, decoding: Decoding, row: int) -> KvCache:
        cache = decoding.new_cache()
        flags = np.zeros(decoding.cache.length, bool)
        flags[: len(decoding.cache.vision_flags)] = decoding.cache.vision_flags
        held = {new: self._buffers[name][row : row + 1] for name, new in self._new_names.items()}
        cache.append(flags, held)
        return cache

    def _make_room(self, rows: int, slots: int) -> None:
        """Let every buffer have so many rows and slots; what is held stays."""
        if rows > self._limits.max_rows or slots > self._limits.max_tokens:
            raise LimitError(
                f"{rows} conversations of up to {slots} tokens, the bundle was built to decode {self._limits.max_rows} "
                f"of {self._limits.max_tokens} together: build again with a larger --batch or --max-tokens"
            )
        had_rows, had_slots = self._positions.shape
        if rows <= had_rows and slots <= had_slots:
            return
        rows = max(rows, min(2 * had_rows, self._limits.max_rows)) if rows > had_rows else had_rows
        slots = max(had_slots, min(-(-slots // ROOM_STEP) * ROOM_STEP, self._limits.max_tokens))
        memory, positions = self._engine.memory, np.full((rows, slots), EMPTY_POSITION, np.int64)
        positions[:had_rows, :had_slots] = self._positions
        for tensor in self._tensors:
            buffer = memory.empty([rows, tensor.shape[1], slots, tensor.shape[3]], tensor.dtype)  # type: ignore[list-item]
            memory.zero(buffer)  # no NaN may lie in empty slots
            for row, decoding in enumerate(self._held):
                held = self._buffers[tensor.name]
                memory.copy_tokens(buffer[row : row + 1], 0, held[row : row + 1], decoding.cache.length)
            self._buffers[tensor.name] = buffer
        self._positions = positions
        self._new = {new: new_array(memory, self._spec.tensor(new), rows) for new in self._new_names.values()}
