"""Prefill and decode over a decoder engine that is played by a script."""

from dataclasses import replace

import numpy as np
import pytest
from reference.panic import PanicException
from reference.toy_manifest import TOY_MANIFEST

from stts_runtime.bundle.manifest import GraphEntry, Limits
from stts_runtime.bundle.spec import Dim, GraphSpec, TensorSpec
from stts_runtime.engine import HostMemory
from stts_runtime.errors import BundleError, EngineError, LimitError, UsageError
from stts_runtime.language.generation import Decoding, Generation, feature_rows, generation_from
from stts_runtime.language.kv_cache import EMPTY_POSITION
from stts_runtime.timings import Timings


STOP = TOY_MANIFEST.tokens.stop[0]
LIMIT = 12
SPEC = GraphSpec(
    "decoder",
    (TensorSpec("features", "float32", ("K", 32)), TensorSpec("past_value_1", "float32", (1, 1, "P", 1))),
    (TensorSpec("logits", "float32", (1, 16)), TensorSpec("new_value_1", "float32", (1, 1, "S", 1))),
    (Dim("S", 1, 4, LIMIT), Dim("P", 0, 4, LIMIT), Dim("K", 1, 4, 8)),
)
MANIFEST = replace(
    TOY_MANIFEST,
    limits=Limits(max_frames=4, max_tokens=LIMIT, chunk_frames=2),
    graphs={"decoder": GraphEntry("decoder.onnx", SPEC)},
)


class ScriptedDecoder:
    """Says the next token of the script at every run, and remembers what it was given."""

    def __init__(self, script):
        self.script, self.seen, self.memory = list(script), [], HostMemory()

    def run(self, inputs, outputs):
        ids = inputs["token_ids"][0].tolist()
        held = inputs["past_positions"] != EMPTY_POSITION
        past = int(held.sum())
        assert inputs["past_positions"][held].tolist() == list(range(past))
        assert inputs["positions"].tolist() == list(range(past, past + len(ids)))
        assert inputs["past_value_1"].shape[2] == len(inputs["past_vision_flags"]) == len(held) <= LIMIT
        assert len(inputs["vision_flags"]) == len(ids)
        assert outputs["new_value_1"].shape[2] == len(ids)
        # the cache holds the ids of what was read: what the model remembers can be looked at
        outputs["new_value_1"][0, 0, :, 0] = ids
        self.remembered = inputs["past_value_1"][0, 0, held, 0].astype(int).tolist() + ids
        rows = inputs["feature_rows"]
        assert rows.dtype == np.int64
        assert len(rows) == len(ids)
        assert 0 <= rows.min() <= rows.max() < len(inputs["features"]), "a row outside of the features is gathered"
        self.rows = rows.tolist()
        self.seen.append((ids, inputs["vision_flags"].tolist(), inputs["features"]))
        if not self.script:
            raise EngineError("out of memory")
        outputs["logits"][:] = np.arange(16) * 1e-3
        outputs["logits"][0, self.script.pop(0)] = 5


def decoding_of(*script):
    engine = ScriptedDecoder(script)
    return Decoding(engine, MANIFEST), engine


def read(decoding, *ids, features=None):
    flags = np.array([token == MANIFEST.tokens.image_patch for token in ids])
    return decoding.read(np.array(ids), flags, features)


def answer(decoding, logits, most=8, **settings):
    return list(decoding.answer(logits, Generation(**settings), most, Timings()))


def test_an_answer_ends_at_a_stop_token_which_is_neither_yielded_nor_read():
    decoding, engine = decoding_of(6, 7, STOP)
    assert answer(decoding, read(decoding, 10, 11)) == [6, 7]
    assert engine.remembered == [10, 11, 6, 7]
    assert decoding.length == 4


def test_an_answer_that_stops_at_once_is_empty():
    decoding, engine = decoding_of(STOP)
    assert answer(decoding, read(decoding, 10)) == []
    assert engine.remembered == [10]


def test_an_answer_has_at_most_so_many_tokens_and_its_last_is_read_with_what_follows():
    decoding, engine = decoding_of(6, 7, 8)
    assert answer(decoding, read(decoding, 10), most=2) == [6, 7]
    assert engine.remembered == [10, 6]
    assert decoding.length == 3
    read(decoding, 11, 12)
    assert engine.seen[-1][0] == [7, 11, 12]
    assert engine.remembered == [10, 6, 7, 11, 12]


def test_whoever_stops_listening_leaves_what_was_yielded_in_memory():
    decoding, engine = decoding_of(6, 7, 8, 9)
    tokens = decoding.answer(read(decoding, 10), Generation(), 8, Timings())
    assert [next(tokens), next(tokens)] == [6, 7]
    tokens.close()
    read(decoding, 11)
    assert engine.remembered == [10, 6, 7, 11]


def test_a_run_that_fails_leaves_the_tokens_before_it_in_memory():
    decoding, engine = decoding_of(6)
    tokens = decoding.answer(read(decoding, 10), Generation(), 8, Timings())
    assert next(tokens) == 6
    with pytest.raises(EngineError):
        next(tokens)
    engine.script = [7]
    read(decoding, 11)
    assert engine.remembered == [10, 6, 11]


def test_features_go_with_the_tokens_they_belong_to_and_later_steps_get_a_row_of_zeros():
    patch = MANIFEST.tokens.image_patch
    decoding, engine = decoding_of(6, 7)
    features = np.ones((2, MANIFEST.decoder.width), np.float32)
    answer(decoding, read(decoding, patch, 10, patch, features=features), most=2)
    (_, flags, given), (_, later_flags, later) = engine.seen
    assert flags == [True, False, True]
    np.testing.assert_array_equal(given, features)
    assert (later_flags, later.shape, later.any()) == ([False], (1, MANIFEST.decoder.width), False)


def test_the_kth_image_patch_has_row_k_and_every_other_token_row_0():
    rows = feature_rows(np.array([9, 3, 3, 9, 3, 9]), 3, count=3)
    assert rows.tolist() == [0, 0, 1, 0, 2, 0]
    assert rows.dtype == np.int64
    assert feature_rows(np.array([9, 8]), 3, count=0).tolist() == [0, 0]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_prompt_with_more_or_fewer_image_patches_than_features_is_refused_before_it_is_read(count):
    patch = MANIFEST.tokens.image_patch
    decoding, engine = decoding_of(6)
    features = np.ones((count, MANIFEST.decoder.width), np.float32)
    with pytest.raises(UsageError, match=rf"2 image patch tokens and there are {count} features"):
        read(decoding, 10, patch, patch, features=features)
    assert (engine.seen, decoding.length) == ([], 0)


def test_rows_of_features_are_counted_from_the_turn_they_came_with_and_not_from_the_answer_before():
    patch = MANIFEST.tokens.image_patch
    decoding, engine = decoding_of(6, 7, 8)
    answer(decoding, read(decoding, 10), most=1)
    read(decoding, 10, patch, 11, patch, features=np.ones((2, MANIFEST.decoder.width), np.float32))
    assert engine.seen[-1][0] == [6, 10, patch, 11, patch]
    assert engine.rows == [0, 0, 0, 0, 1]


def test_image_patches_that_the_model_itself_says_are_read_without_features():
    patch = MANIFEST.tokens.image_patch
    decoding, engine = decoding_of(patch, patch, 6)
    assert answer(decoding, read(decoding, 10), most=2) == [patch, patch]
    read(decoding, patch, patch)
    assert engine.seen[-1][0] == [patch, patch, patch]
    assert engine.rows == [0, 0, 0]
    assert not engine.seen[-1][2].any()


def test_no_kept_group_at_all_is_a_row_of_zeros_too():
    decoding, engine = decoding_of(6)
    read(decoding, 10, features=np.zeros((0, MANIFEST.decoder.width), np.float32))
    assert engine.seen[0][2].shape == (1, MANIFEST.decoder.width)


def test_room_is_what_the_profile_leaves_and_a_prompt_that_fills_it_is_refused():
    decoding, _ = decoding_of(6, 7)
    assert decoding.room(5, answer=3) == 3
    assert decoding.room(5, answer=100) == LIMIT - 5
    assert decoding.room(LIMIT - 1, answer=100) == 1
    with pytest.raises(LimitError, match=r"12 tokens, the bundle was built for 12.*--max-tokens"):
        decoding.room(LIMIT, answer=1)
    answer(decoding, read(decoding, 10, 11, 12), most=2)
    assert decoding.room(5, answer=100) == LIMIT - 10


def test_the_longest_answer_stays_inside_the_profile():
    decoding, engine = decoding_of(*[6] * 20)
    logits = read(decoding, 10, 11)
    tokens = answer(decoding, logits, most=decoding.room(0, answer=100))
    assert len(tokens) == LIMIT - 2
    assert decoding.length == LIMIT
    assert len(engine.remembered) == LIMIT - 1


def test_one_seed_gives_one_answer_and_another_seed_another():
    def drawn(seed):
        decoding, _ = decoding_of(*[6] * 8)
        return answer(decoding, read(decoding, 10), most=6, temperature=20.0, seed=seed)

    assert drawn(1) == drawn(1)
    assert len({tuple(drawn(seed)) for seed in range(5)}) > 1


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"max_tokens": -3}, "max_tokens is -3"),
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.5}, "top_p"),
        ({"seed": -1}, "seed is -1, wanted 0 or more"),
    ],
    ids=str,
)
def test_settings_that_cannot_work_are_refused(settings, complaint):
    with pytest.raises(UsageError, match=complaint):
        Generation(**settings).check()


def test_the_profile_counts_answer_tokens_and_times_decoding_only_after_the_first():
    timings = Timings()
    decoding, _ = decoding_of(6, STOP)
    assert list(decoding.answer(read(decoding, 10), Generation(), 8, timings)) == [6]
    assert timings.tokens["answer_tokens"] == 1
    assert list(timings.milliseconds) == ["decode"]


def reason(decoding, logits, most):
    timings = Timings()
    said = list(decoding.answer(logits, Generation(), most, timings))
    return timings.finish_reason, said


def test_an_answer_tells_whether_it_was_stopped_or_cut():
    decoding, _ = decoding_of(6, 7, STOP)
    assert reason(decoding, read(decoding, 10, 11), 8) == ("stop", [6, 7])
    decoding, _ = decoding_of(6, 7, 8)
    assert reason(decoding, read(decoding, 10, 11), 2) == ("length", [6, 7])
    decoding, _ = decoding_of(STOP)
    assert reason(decoding, read(decoding, 10, 11), 8) == ("stop", [])


def test_an_answer_that_is_not_over_has_no_reason_to_be():
    decoding, _ = decoding_of(6, 7, STOP)
    timings = Timings(finish_reason="stop")
    pieces = decoding.answer(read(decoding, 10, 11), Generation(), 8, timings)
    next(pieces)
    assert timings.finish_reason is None
    pieces.close()
    assert timings.finish_reason is None


@pytest.mark.parametrize("value", ["8", None, True, [8], float("nan"), object()])
@pytest.mark.parametrize("name", ["max_tokens", "temperature", "top_p", "seed"])
def test_a_setting_of_another_type_is_refused_by_name(name, value):
    with pytest.raises(UsageError, match=name):
        generation_from({name: value})
    with pytest.raises(UsageError, match=name):
        Generation(**{name: value}).check()


@pytest.mark.parametrize(
    ("name", "value"), [("max_tokens", 1.5), ("seed", 0.5), ("temperature", 10**5000)], ids=["most", "seed", "huge"]
)
def test_a_number_that_will_not_do_is_refused_by_name(name, value):
    with pytest.raises(UsageError, match=f"{name}: wanted a (whole )?number, got"):
        generation_from({name: value})


def test_numbers_of_numpy_are_numbers():
    settings = {"max_tokens": np.int64(3), "temperature": np.float32(0.5), "top_p": 1, "seed": np.uint8(2)}
    assert generation_from(settings).max_tokens == 3


def test_a_temperature_as_large_as_a_float_can_be_is_drawn_with():
    decoding, _ = decoding_of(6, STOP)
    assert len(answer(decoding, read(decoding, 10), most=1, temperature=10**308)) <= 1


def test_a_panic_while_the_cache_grows_is_one_of_our_errors(monkeypatch):
    def panic(*given):
        raise PanicException("index out of bounds")

    decoding, engine = decoding_of(6)
    monkeypatch.setattr(engine.memory, "copy_tokens", panic)
    with pytest.raises(EngineError, match=r"do not fit its cache \(index out of bounds\)"):
        read(decoding, 10)


@pytest.mark.parametrize("vocabulary", [-1, 2**70])
def test_logits_of_an_impossible_size_are_the_bundles_fault(vocabulary):
    manifest = replace(MANIFEST, decoder=replace(MANIFEST.decoder, vocabulary=vocabulary))
    with pytest.raises(BundleError, match="no logits are as large"):
        read(Decoding(ScriptedDecoder([6]), manifest), 10)
