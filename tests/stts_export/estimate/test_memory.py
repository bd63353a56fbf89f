"""What is held and what building takes, against figures that were seen."""

from dataclasses import replace

import pytest
from reference.scenario import scenario

from stts_export.estimate.count import Packed
from stts_export.estimate.memory import available_bytes, block_activations, cache_bytes, is_prepacked, memory_of
from stts_export.quantise.choice import choice_of
from stts_runtime.bundle.memory_needed import BUILD_BASE_BYTES


@pytest.mark.parametrize(("bins", "megabytes"), [(16, 252), (64, 1007)])
def test_working_memory_of_a_masked_block_is_what_tensorrt_rtx_reports(bins, megabytes):
    tower = scenario().config.tower
    found = block_activations(tower, Packed(bins, 729, bins * 729), 2, masked=True, fused=True)
    assert found / 1e6 == pytest.approx(megabytes, rel=0.01)


def test_the_cache_holds_keys_and_values_of_every_layer():
    assert cache_bytes(scenario().config.decoder, 1000, 2) == 2 * 36 * 8 * 128 * 1000 * 2
    assert memory_of(scenario(max_tokens=8192)).cache == 2 * memory_of(scenario(max_tokens=4096)).cache


def test_the_total_is_the_sum_and_halves_of_a_precision_are_halves():
    found, wide = memory_of(scenario()), memory_of(scenario(precision="float32"))
    names = ("weights", "cache", "hidden", "features", "vision_activations", "decoder_activations", "clip", "runtime")
    assert found.total == sum(getattr(found, name) for name in names)
    assert all(getattr(wide, name) == 2 * getattr(found, name) for name in names[:4])


def test_hidden_states_of_the_clip_are_held_only_where_it_is_pruned():
    assert memory_of(scenario()).hidden == 64 * 729 * 1152 * 2
    assert memory_of(scenario(prune=0.0)).hidden == 0


def test_the_largest_engine_sets_the_build_and_engines_for_dense_clips_and_images_hold_the_tower_again():
    found = memory_of(scenario())
    assert max(found.engines, key=found.engines.__getitem__) == "decoder"
    assert found.build_low == pytest.approx(3 * 8.04e9 + BUILD_BASE_BYTES, rel=0.001)
    assert found.build_high == pytest.approx(4 * 8.04e9 + BUILD_BASE_BYTES, rel=0.001)
    assert sum(found.engines.values()) - found.bundle_disk == pytest.approx(2 * 2 * 439e6, rel=0.01)
    videos_only = memory_of(without_images(scenario()))
    assert sum(videos_only.engines.values()) - videos_only.bundle_disk == pytest.approx(2 * 439e6, rel=0.01)


def test_an_image_takes_no_weights_beside_a_clips_and_no_less_memory_than_its_crops():
    short, found = (memory_of(made) for made in (scenario(frames=1, chunk_frames=1), scenario()))
    assert found.weights == memory_of(without_images(scenario())).weights
    assert short.features > memory_of(without_images(scenario(frames=1, chunk_frames=1))).features
    assert short.vision_activations > memory_of(without_images(scenario(frames=1, chunk_frames=1))).vision_activations


def without_images(made):
    return replace(made, config=replace(made.config, image=None))


def test_onnxruntime_builds_nothing_and_holds_the_logits_of_attention():
    cpu = memory_of(scenario("micro", "cpu", frames=8))
    assert (cpu.build_low, cpu.build_high, cpu.engine_disk, cpu.runtime) == (0, 0, 0, 0)
    unfused, fused = (memory_of(scenario(target="h100", backend=name)) for name in ("onnxruntime", "tensorrt"))
    assert unfused.decoder_activations > 10 * fused.decoder_activations


def test_what_a_target_has_is_known_only_where_its_recipe_says():
    assert available_bytes(scenario(target="cpu", model="micro")) is None
    assert available_bytes(scenario(target="l4")) < scenario(target="l4").target.memory_gib * 2**30


def test_weights_that_onnxruntime_repacks_are_held_twice_on_the_cpu_and_for_small_models_only():
    small, large = scenario("micro", "cpu", frames=8), scenario("molmo2-4b", "cpu", frames=8)
    assert is_prepacked(small.config, small.target, "float32")
    assert not is_prepacked(large.config, large.target, "float32")
    rounded = choice_of("onnxruntime", "int4", "float32")
    assert is_prepacked(large.config, large.target, "float32", rounded)
    assert not is_prepacked(large.config, large.target, "float32", None, "int8")
    assert memory_of(small).weights == 2 * memory_of(small).bundle_disk
    assert memory_of(large).weights == memory_of(large).bundle_disk
    on_gpu = scenario("micro", "l4", frames=8, backend="onnxruntime")
    assert memory_of(on_gpu).weights == memory_of(on_gpu).bundle_disk


def test_it_says_which_clip_and_conversation_it_is_for():
    found = memory_of(scenario(frames=16, max_tokens=4096))
    assert (found.frames, found.tokens) == (16, 4096)


@pytest.mark.parametrize("backend", ["onnxruntime", "tensorrt"])
def test_shorter_conversations_take_no_more_than_their_share(backend):
    whole, part = (
        memory_of(scenario(target="l4", backend=backend, frames=8, max_tokens=tokens)) for tokens in (8192, 2048)
    )
    assert part.total <= whole.without_tokens + 2048 * whole.per_token


def test_smaller_chunks_take_less():
    small, large = (memory_of(without_images(made)) for made in (scenario(chunk_frames=2), scenario()))
    assert small.vision_activations * 3 < large.vision_activations


def test_an_engine_for_several_conversations_holds_the_decoder_a_second_time():
    one, eight = (memory_of(scenario(target="h100", frames=8, batch=batch)) for batch in (1, 8))
    assert eight.engines == {**one.engines, "decoder_rows": one.engines["decoder"]}
    assert eight.weights - one.weights == one.engines["decoder"]
    assert eight.bundle_disk == one.bundle_disk  # on disk they are stored once
    small, several = (memory_of(scenario("micro", "cpu", frames=8, batch=batch)) for batch in (1, 8))
    assert several == small  # graphs that are run as they are share them
