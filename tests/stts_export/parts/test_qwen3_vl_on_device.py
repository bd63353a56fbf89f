"""Qwen3-VL's parts with plugins, in float32 and with the plugins' bodies, say what torch says of the portable ones."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from reference.plugin_part import plugin_engine, ran
from reference.qwen3_vl_bundle import LIMITS
from reference.qwen3_vl_sizes import GRIDS, TOWER, VOCABULARY, model_config
from reference.toy_bundle import toy_model

from stts_export.models.tower import VisionTower
from stts_export.parts import parts_of
from stts_runtime.language.kv_cache import EMPTY_POSITION
from stts_runtime.vision.plan import group_patches, pack_ragged
from stts_runtime.vision.run import encode_inputs


FRAMES = LIMITS.chunk_frames


@pytest.fixture
def pair(tmp_path, captured):
    """Return a function from a model and a part to what runs its plugin graph, and the portable part in torch."""

    def made(config, name):
        model = toy_model(config)
        plugin, portable = (
            next(part for part in parts_of(model, config, LIMITS, "ragged", plugins=plugins) if part.spec.name == name)
            for plugins in (True, False)
        )

        def in_torch(inputs):
            with torch.inference_mode():
                got = portable.module(*(torch.from_numpy(inputs[tensor.name]) for tensor in portable.spec.inputs))
            got = got if isinstance(got, tuple) else (got,)
            return {tensor.name: one.numpy() for tensor, one in zip(portable.spec.outputs, got, strict=True)}

        return plugin_engine(plugin, config, captured, tmp_path / name), in_torch, plugin.spec

    return made


def close(got, wanted, what=""):
    assert set(got) == set(wanted)
    for name, array in wanted.items():
        scale = np.abs(array).max(initial=1e-6)
        np.testing.assert_allclose(got[name], array, rtol=0, atol=2e-5 * scale, err_msg=f"{what} {name}")


def hidden_of(frames, grid):
    return np.random.default_rng(1).standard_normal((frames, grid.patches, TOWER.width)).astype(np.float32)


def keeps(grid):
    """Name -> bool [T, G]; the first frame is whole in each, as it is in every plan."""
    rng = np.random.default_rng(0)
    found = {"half": rng.random((FRAMES, grid.groups)) < 0.5, "everything": np.ones((FRAMES, grid.groups), bool)}
    found["a frame with nothing kept"] = np.zeros((FRAMES, grid.groups), bool)
    for keep in found.values():
        keep[0] = True
    return {**found, "one frame": np.ones((1, grid.groups), bool)}


@pytest.mark.parametrize("grid", GRIDS[:2], ids=["wide", "tall"])
def test_encoding_on_the_device_equals_encoding_by_the_hosts_plan(pair, grid):
    """Rows lie by group here and by patch there, and each is turned by its own place."""
    engine, in_torch, _ = pair(model_config("cosine", grid=grid), "vision_encode")
    for name, keep in keeps(grid).items():
        hidden = hidden_of(len(keep), grid)
        wanted = in_torch({"hidden": hidden, **encode_inputs(pack_ragged(keep, grid))})
        inputs = {
            "hidden": hidden,
            "order": np.flatnonzero(keep),
            "cumulative_groups": np.append(0, np.cumsum(keep.sum(axis=1))),
            "positions": np.arange(grid.patches),
        }
        close(ran(engine, inputs, wanted), wanted, name)


def test_what_is_no_group_is_encoded_without_a_fault(pair):
    """As after scores that are not finite, whose features nobody reads."""
    config = model_config("cosine")
    engine, _, spec = pair(config, "vision_encode")
    inputs = {
        "hidden": hidden_of(2, config.grid),
        "order": np.full(4, -1),
        "cumulative_groups": np.array([0, 2, 4]),
        "positions": np.arange(2 * config.grid.pool**2),
    }
    features = ran(engine, inputs, {"features": np.empty((4, spec.tensor("features").shape[1]), np.float32)})
    assert np.isfinite(features["features"]).all()


@pytest.mark.parametrize("grid", GRIDS, ids=["wide", "tall", "a group"])
def test_places_of_groups_are_those_of_their_patches(grid):
    tower = VisionTower(TOWER, grid)
    order = torch.tensor([0, grid.groups - 1, grid.groups, 3 * grid.groups - 1])
    wanted = group_patches(grid)[order.numpy() % grid.groups].reshape(-1)
    np.testing.assert_array_equal(tower.rotation.places_of(order).numpy(), wanted)
    assert tower.rotation.places_of(torch.tensor([-1])).max() < grid.patches


@pytest.mark.parametrize("grid", GRIDS[:2], ids=["wide", "tall"])
@pytest.mark.parametrize("scorer", ["learned", "cosine"])
def test_scores_by_plugins_are_those_of_the_scorer(pair, scorer, grid):
    config = model_config(scorer, grid=grid)
    engine, in_torch, spec = pair(config, "vision_score")
    rng = np.random.default_rng(2)
    shapes = {
        "patches": (FRAMES, grid.patches, grid.patch_values),
        "previous": spec.tensor("previous").shape,
        "gate": (FRAMES,),
    }
    inputs = {tensor.name: rng.standard_normal(shapes[tensor.name]).astype(np.float32) for tensor in spec.inputs}
    wanted = in_torch(inputs)
    close(ran(engine, inputs, wanted), wanted)


def test_the_decoder_with_plugins_equals_the_portable_one(pair):
    """It sees causally, turns by three axes, puts features in the place of embeddings and adds DeepStack's sets."""
    config = model_config("cosine")
    engine, in_torch, spec = pair(config, "decoder")
    rng = np.random.default_rng(5)
    decoder, past, new, room = config.decoder, 6, 7, 5
    ids = rng.integers(0, VOCABULARY - 20, (1, new))
    ids[0, [1, 2, 5]] = config.tokens.image_patch
    inputs = {
        "token_ids": ids,
        "features": rng.standard_normal((3, config.feature_width)).astype(np.float32),
        "feature_rows": np.array([0, 0, 1, 0, 0, 2, 0]),
        "positions": np.arange(past, past + new),
        "past_positions": np.append(np.arange(past), np.full(room, EMPTY_POSITION)),
        "rope_positions": np.sort(rng.integers(0, 9, (3, new))),
    }
    for tensor in spec.inputs[len(inputs) :]:
        shape = (1, decoder.kv_heads, past + room, decoder.head_dim)
        inputs[tensor.name] = rng.standard_normal(shape).astype(np.float32)
    wanted = in_torch(inputs)
    close(ran(engine, inputs, wanted), wanted)
    moved = in_torch({**inputs, "rope_positions": np.tile(inputs["positions"], (3, 1))})
    assert np.abs(moved["logits"] - wanted["logits"]).max() > 1e-2  # places alone do not say it


def test_a_tower_without_rotary_positions_asks_for_no_places(pair):
    config = model_config("cosine")
    plain = replace(config, tower=replace(TOWER, rope_theta=None))
    assert toy_model(plain).vision_tower.placed(abs, order=torch.arange(3)) is abs
