"""Keys and values of the tokens a decoder has seen, in buffers with room for more.

Arrays that grew with every token would be copied whole at every step, and no two steps would have the same shapes. Here
the decoder reads the whole buffer, is told which slots are empty, and gives back the new tokens' entries alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stts_runtime.bundle.spec import GraphSpec, TensorSpec
from stts_runtime.engine.memory import Array, Memory, new_array
from stts_runtime.errors import EngineError, LimitError
from stts_runtime.foreign import foreign_errors


PAST, NEW = ("past_key_", "past_value_"), ("new_key_", "new_value_")
"""How the names of a decoder's inputs and outputs of keys and values begin."""

EMPTY_POSITION = 2**31 - 1
"""Position of an empty slot: later than any token's, so that none sees it; fits the int32 of some engines."""

ROOM_STEP = 256
"""Slots are added by so many: steps between have one shape. Empty ones are read too, 128 on average."""


class KvCache:
    """The cache of a decoder graph. Its arrays live where the engine wants them.

    Attributes:
        length: tokens held, in the first slots.
    """

    def __init__(self, memory: Memory, spec: GraphSpec, max_tokens: int) -> None:
        """Return a cache that is empty and has no slots.

        Args:
            memory: the engine's.
            spec: the decoder's; its inputs say what is held.
            max_tokens: slots at most.
        """
        self._memory, self._spec, self._max_tokens = memory, spec, max_tokens
        self._tensors = [tensor for tensor in spec.inputs if tensor.name.startswith(PAST)]
        self._new_names = {tensor.name: new_name(tensor) for tensor in self._tensors}
        self._buffers = {tensor.name: new_array(memory, tensor, 0) for tensor in self._tensors}
        self._positions = np.zeros(0, np.int64)
        self._flags = np.zeros(0, bool)
        self._of_one_token = self._arrays_of(1)
        self.length = 0

    @property
    def capacity(self) -> int:
        """P: slots, empty or not."""
        return len(self._positions)

    @property
    def vision_flags(self) -> NDArray[np.bool_]:
        """Which of the tokens held are vision tokens, bool [length]."""
        return self._flags[: self.length]

    def past(self) -> dict[str, Array]:
        """Return the decoder's inputs that say what it has seen.

        Raises:
            EngineError: there is no room to make up for an `append` that ran out of memory.
        """
        self._make_even()
        return {"past_positions": self._positions, "past_vision_flags": self._flags, **self._buffers}

    def outputs(self, count: int) -> dict[str, Array]:
        """Return arrays for what the decoder says of `count` new tokens; of one token they are the same every time.

        Raises:
            LimitError: more tokens than the bundle was built for.
        """
        if self.length + count > self._max_tokens:
            raise LimitError(
                f"{self.length} tokens were read and {count} are to follow, the bundle was built for "
                f"{self._max_tokens}: build again with a larger --max-tokens"
            )
        return dict(self._of_one_token) if count == 1 else self._arrays_of(count)

    def append(self, vision_flags: NDArray[np.bool_], new: dict[str, Array]) -> None:
        """Hold new tokens.

        Args:
            vision_flags: bool [S].
            new: what `outputs` returned, written by the decoder, or other arrays by these names that begin with the
                entries. It is emptied on the way, so that no more than one layer is held twice.

        Raises:
            EngineError: there is no room for more. What was held before still is, the new tokens are not.
        """
        count = len(vision_flags)
        end = self.length + count
        slots = self.capacity
        if end > slots:
            slots = min(-(-end // ROOM_STEP) * ROOM_STEP, self._max_tokens)
        with foreign_errors(lambda reason: EngineError(f"the decoder's outputs do not fit its cache ({reason})")):
            for tensor in self._tensors:
                self._resize(tensor, slots)
                held, entries = self._buffers[tensor.name], new.pop(self._new_names[tensor.name])
                self._memory.copy_tokens(held, self.length, entries, count)
        self._positions = widened(self._positions, slots, EMPTY_POSITION)
        self._flags = widened(self._flags, slots, False)
        self._positions[self.length : end] = np.arange(self.length, end)
        self._flags[self.length : end] = vision_flags
        self.length = end

    def head(self, count: int) -> KvCache:
        """Return a cache that holds copies of the first `count` tokens.

        Raises:
            EngineError: there is no room for it.
        """
        head, past = KvCache(self._memory, self._spec, self._max_tokens), self.past()
        head.append(self.vision_flags[:count], {new: past[name] for name, new in self._new_names.items()})
        return head

    def _make_even(self) -> None:
        """Finish what an `append` that failed has begun, so that all buffers have one size again.

        Going back instead would take the old buffers of all layers until the last has grown: the whole cache twice, at
        every step of growth, on devices that have room for little more than one.
        """
        sizes = {array.shape[2] for array in self._buffers.values()}
        if sizes == {self.capacity}:
            return
        slots = max(sizes) if self.length else 0
        for tensor in self._tensors:
            self._resize(tensor, slots)
        self._positions = widened(self._positions, slots, EMPTY_POSITION)
        self._flags = widened(self._flags, slots, False)

    def _resize(self, tensor: TensorSpec, slots: int) -> None:
        """Let the buffer of `tensor` have `slots`: what is held, then zeros, as no NaN may lie in empty slots."""
        held = self._buffers[tensor.name]
        if held.shape[2] == slots:
            return
        buffer = new_array(self._memory, tensor, slots)
        self._memory.zero(buffer)
        self._memory.copy_tokens(buffer, 0, held, self.length)
        self._buffers[tensor.name] = buffer

    def _arrays_of(self, count: int) -> dict[str, Array]:
        return {new_name(tensor): new_array(self._memory, tensor, count) for tensor in self._tensors}


@dataclass
class RowCache:
    """What is known of a cache whose keys and values lie in a row among others, see `rows`."""

    length: int  # tokens held
    vision_flags: NDArray[np.bool_]  # [L], which of the first tokens are vision tokens; the others are text


def new_name(past: TensorSpec) -> str:
    """Return the output that has the new tokens' entries of a cache input: `new_key_0` of `past_key_0`."""
    return past.name.replace("past", "new", 1)


def widened(array: np.ndarray, slots: int, fill: object) -> np.ndarray:
    """Return `array` [P] with `fill` behind it up to `slots`, and itself if it is as long."""
    if len(array) == slots:
        return array
    return np.concatenate((array, np.full(slots - len(array), fill, array.dtype)))
