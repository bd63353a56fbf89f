"""The cache's buffers: what is held where, how room grows, and what the decoder is told of it."""

import numpy as np
import pytest

from stts_runtime.bundle.spec import Dim, GraphSpec, TensorSpec
from stts_runtime.engine import HostMemory
from stts_runtime.errors import EngineError, LimitError
from stts_runtime.language.kv_cache import EMPTY_POSITION, ROOM_STEP, KvCache


LIMIT = 3 * ROOM_STEP + 10
NAMES = ("key_0", "value_0", "key_1", "value_1")


def spec_of(dtype="float32"):
    return GraphSpec(
        "decoder",
        (
            TensorSpec("token_ids", "int64", (1, "S")),
            *(TensorSpec(f"past_{name}", dtype, (1, 3, "P", 4)) for name in NAMES),
        ),
        tuple(TensorSpec(f"new_{name}", dtype, (1, 3, "S", 4)) for name in NAMES),
        (Dim("S", 1, 8, LIMIT), Dim("P", 0, 8, LIMIT)),
    )


class SmallMemory(HostMemory):
    """Has no room for more arrays once `left` were made."""

    left = 1000

    def empty(self, shape, dtype):
        if self.left == 0:
            raise EngineError("out of memory")
        self.left -= 1
        return super().empty(shape, dtype)


@pytest.fixture
def cache():
    return KvCache(HostMemory(), spec_of(), LIMIT)


def feed(cache, count, seed=0, flags=None):
    """Let the cache hold `count` drawn tokens and return what was drawn."""
    rng = np.random.default_rng(seed)
    new = cache.outputs(count)
    for array in new.values():
        array[...] = rng.standard_normal(array.shape)
    drawn = {name.removeprefix("new_"): array.copy() for name, array in new.items()}
    cache.append(np.zeros(count, bool) if flags is None else flags, new)
    return drawn


def test_a_new_cache_has_no_slots_and_can_be_fed(cache):
    past = cache.past()
    assert (cache.length, cache.capacity) == (0, 0)
    assert past["past_positions"].dtype == np.int64
    assert [past[f"past_{name}"].shape for name in NAMES] == [(1, 3, 0, 4)] * 4


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_its_arrays_are_in_the_decoders_precision(dtype):
    cache = KvCache(HostMemory(), spec_of(dtype), LIMIT)
    feed(cache, 2)
    stored = {"float16": np.float16, "bfloat16": np.uint16}[dtype]
    assert cache.past()["past_value_1"].dtype == cache.outputs(3)["new_value_1"].dtype == stored


def test_tokens_lie_in_the_first_slots_and_the_others_are_empty_and_zero(cache):
    flags = np.array([False, True, True])
    drawn = [feed(cache, 3, 0, flags), feed(cache, 1, 1)]
    past = cache.past()
    assert (cache.length, cache.capacity) == (4, ROOM_STEP)
    assert past["past_positions"].tolist() == [0, 1, 2, 3] + [EMPTY_POSITION] * (ROOM_STEP - 4)
    assert past["past_vision_flags"].nonzero()[0].tolist() == [1, 2]
    for name in NAMES:
        array = past[f"past_{name}"]
        np.testing.assert_array_equal(array[:, :, :4], np.concatenate([new[name] for new in drawn], axis=2))
        assert not array[:, :, 4:].any()


def test_shapes_and_arrays_stay_until_the_room_is_used_up_and_then_grow_by_a_step(cache):
    first = feed(cache, ROOM_STEP - 2)
    held = cache.past()
    for step in range(2):
        feed(cache, 1, step)
        assert all(array is held[name] for name, array in cache.past().items())
    second = feed(cache, 1)
    assert (cache.length, cache.capacity) == (ROOM_STEP + 1, 2 * ROOM_STEP)
    grown = cache.past()["past_key_1"]
    np.testing.assert_array_equal(grown[:, :, : ROOM_STEP - 2], first["key_1"])
    np.testing.assert_array_equal(grown[:, :, ROOM_STEP : ROOM_STEP + 1], second["key_1"])
    assert not grown[:, :, ROOM_STEP + 1 :].any()
    assert cache.past()["past_positions"][: cache.length].tolist() == list(range(ROOM_STEP + 1))


def test_the_outputs_of_one_token_are_the_same_arrays_every_time(cache):
    first = cache.outputs(1)
    feed(cache, 1)
    assert all(array is first[name] for name, array in cache.outputs(1).items())


def test_what_was_appended_is_let_go_of(cache):
    new = cache.outputs(5)
    cache.append(np.zeros(5, bool), new)
    assert not new


def test_room_never_exceeds_what_the_bundle_was_built_for_and_neither_do_tokens(cache):
    feed(cache, 3 * ROOM_STEP + 1)
    assert cache.capacity == LIMIT
    feed(cache, 9)
    assert cache.length == LIMIT
    with pytest.raises(LimitError, match=rf"{LIMIT} tokens were read and 1 are to follow.*--max-tokens"):
        cache.outputs(1)


def feed_without_room(memory, cache, count, room):
    """Let memory run out when `room` of the buffers have grown; from then on there is none."""
    new = cache.outputs(count)
    for array in new.values():
        array[...] = 7
    memory.left = room
    with pytest.raises(EngineError, match="out of memory"):
        cache.append(np.ones(count, bool), new)


@pytest.mark.parametrize("grown", range(len(NAMES)))
def test_out_of_memory_while_room_grows_leaves_what_was_held_and_another_attempt_succeeds(grown):
    memory = SmallMemory()
    cache = KvCache(memory, spec_of(), LIMIT)
    first = feed(cache, ROOM_STEP, 0)
    feed_without_room(memory, cache, 5, grown)
    assert cache.length == ROOM_STEP
    if grown:
        with pytest.raises(EngineError, match="out of memory"):
            cache.past()
    memory.left = 1000
    past = cache.past()
    slots = len(past["past_positions"])
    assert slots == len(past["past_vision_flags"]) == cache.capacity == (2 if grown else 1) * ROOM_STEP
    assert {past[f"past_{name}"].shape for name in NAMES} == {(1, 3, slots, 4)}
    assert (past["past_positions"] != EMPTY_POSITION).sum() == ROOM_STEP
    assert not past["past_vision_flags"].any()
    second = feed(cache, 5, 1)
    for name in NAMES:
        held = cache.past()[f"past_{name}"][:, :, : cache.length]
        np.testing.assert_array_equal(held, np.concatenate((first[name], second[name]), axis=2))


def test_out_of_memory_at_the_first_tokens_gives_their_room_back(cache):
    memory = SmallMemory()
    cache = KvCache(memory, spec_of(), LIMIT)
    feed_without_room(memory, cache, 5, 2)
    memory.left = 1000
    past = cache.past()
    assert (cache.length, cache.capacity) == (0, 0)
    assert {past[f"past_{name}"].shape for name in NAMES} == {(1, 3, 0, 4)}
    drawn = feed(cache, 5)
    np.testing.assert_array_equal(cache.past()["past_key_1"][:, :, :5], drawn["key_1"])
