"""Sums over what a bundle needs, and the two rules for building."""

from dataclasses import fields, replace

from reference.toy_manifest import TOY_MEMORY

from stts_runtime.bundle.memory_needed import BUILD_BASE_BYTES, build_range, engine_bytes


ASIDE = ("frames", "tokens", "output_head", "bundle_disk", "engines")


def test_the_total_is_the_sum_of_all_that_is_held_at_once():
    held = {field.name for field in fields(TOY_MEMORY)} - set(ASIDE)
    assert TOY_MEMORY.total == sum(getattr(TOY_MEMORY, name) for name in held)
    assert replace(TOY_MEMORY, runtime=7, output_head=5, engines={"decoder": 9}).total == TOY_MEMORY.total + 7


def test_as_many_tokens_fit_as_their_cache_and_working_memory_leave_room_for():
    assert TOY_MEMORY.per_token == (TOY_MEMORY.cache + TOY_MEMORY.decoder_activations) / TOY_MEMORY.tokens
    assert TOY_MEMORY.without_tokens + TOY_MEMORY.tokens * TOY_MEMORY.per_token == TOY_MEMORY.total


def test_what_builds_no_engines_needs_nothing_for_them():
    assert (TOY_MEMORY.build_low, TOY_MEMORY.build_high, TOY_MEMORY.engine_disk) == (0, 0, 0)


def test_the_largest_engine_sets_the_memory_of_a_build_and_all_of_them_the_disk():
    needed = replace(TOY_MEMORY, engines={"decoder": 1000, "vision_dense": 500})
    assert (needed.build_low, needed.build_high) == (3000 + BUILD_BASE_BYTES, 4000 + BUILD_BASE_BYTES)
    assert (needed.build_low, needed.build_high) == build_range(1000)
    assert needed.engine_disk == engine_bytes([1500]) == 1650
