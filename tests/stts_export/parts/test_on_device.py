"""Parts with plugins, in float32 and with the plugins' bodies, say what the portable ones say, and what torch says."""

import numpy as np
import pytest
from reference.molmo2_sizes import GRID
from reference.plugin_part import plugin_engine, ran
from reference.toy_bundle import KINDS, LIMITS, TOWER, toy_config, toy_model
from reference.toy_engine import part_pair

from stts_export.parts import parts_of
from stts_runtime.language.kv_cache import EMPTY_POSITION
from stts_runtime.vision.plan import pack_ragged, select_groups
from stts_runtime.vision.run import encode_inputs


@pytest.fixture(scope="module")
def pairs(tmp_path_factory, toy_bundle, captured):
    """Return a function from a part's name to what runs its plugin graph on a CPU, and to its portable pair."""
    decoder, scorer, packing = KINDS["ragged"]
    config = toy_config(decoder, scorer)
    parts = {part.spec.name: part for part in parts_of(toy_model(config), config, LIMITS, packing, plugins=True)}
    folder = tmp_path_factory.mktemp("on_device")

    def pair(name):
        part = parts[name]
        engine = plugin_engine(part, config, captured, folder / name)
        portable = None if name == "vision_select" else part_pair(toy_bundle, "ragged", name)
        return part, engine, portable

    return pair


def keeps():
    """Name -> bool [T, G]; the first frame is whole in each, as it is in every plan."""
    rng = np.random.default_rng(0)
    frames = LIMITS.chunk_frames  # as many as the portable part is given at once
    sparse = rng.random((frames, GRID.groups)) < 0.5
    sparse[1] = False
    found = {"half": rng.random((frames, GRID.groups)) < 0.5, "frames with nothing kept": sparse}
    for keep in found.values():
        keep[0] = True
    return {**found, "one frame": np.ones((1, GRID.groups), bool), "everything": np.ones((frames, GRID.groups), bool)}


def test_encoding_on_the_device_equals_encoding_by_the_hosts_plan(pairs):
    _, engine, portable = pairs("vision_encode")
    for name, keep in keeps().items():
        hidden = np.random.default_rng(1).standard_normal((len(keep), GRID.patches, TOWER.width)).astype(np.float32)
        wanted = portable.check({"hidden": hidden, **encode_inputs(pack_ragged(keep, GRID))})
        inputs = {
            "hidden": hidden,
            "order": np.flatnonzero(keep),
            "cumulative_groups": np.append(0, np.cumsum(keep.sum(axis=1))),
            "positions": np.arange(GRID.patches),
        }
        got = ran(engine, inputs, wanted)["features"]
        scale = np.abs(wanted["features"]).max()
        np.testing.assert_allclose(got, wanted["features"], rtol=0, atol=2e-5 * scale, err_msg=name)


@pytest.fixture(scope="module")
def selector(pairs):
    return pairs("vision_select")[1]


@pytest.mark.parametrize("prune", [0.0, 0.3, 0.5, 0.9])
def test_selecting_on_the_device_is_the_hosts_selection(selector, prune):
    scores = np.round(np.random.default_rng(3).random((7, GRID.groups), np.float32) * 4) / 4  # many are equal
    keep = select_groups(scores, prune)
    wanted = {"order": np.flatnonzero(keep), "cumulative_groups": np.append(0, np.cumsum(keep.sum(axis=1)))}
    got = ran(selector, {"scores": scores, "kept": np.zeros(keep.sum(), np.int64)}, wanted)
    for name, array in wanted.items():
        np.testing.assert_array_equal(got[name], array)


def test_the_decoder_with_plugins_equals_the_portable_one(pairs):
    part, engine, portable = pairs("decoder")
    rng = np.random.default_rng(5)
    decoder, tokens, past, new, room = portable.config.decoder, portable.config.tokens, 6, 7, 5
    flags = np.zeros(past + new, bool)
    flags[[2, 3, 7, 8, 11]] = True
    ids = rng.integers(0, decoder.vocabulary, past + new)
    ids[flags] = tokens.image_patch
    inputs = {
        "token_ids": ids[None, past:],
        "features": rng.standard_normal((3, decoder.width)).astype(np.float32),
        "feature_rows": np.where(flags[past:], np.cumsum(flags[past:]) - 1, 0),
        "positions": np.arange(past, past + new),
        "past_positions": np.append(np.arange(past), np.full(room, EMPTY_POSITION)),
        "past_vision_flags": np.append(flags[:past], np.zeros(room, bool)),
        "vision_flags": flags[past:],
    }
    for tensor in part.spec.inputs[len(inputs) :]:
        shape = (1, decoder.kv_heads, past + room, decoder.head_dim)
        inputs[tensor.name] = rng.standard_normal(shape).astype(np.float32)
    wanted = portable.check(inputs)
    for name, array in ran(engine, inputs, wanted).items():
        scale = np.abs(wanted[name]).max()
        np.testing.assert_allclose(array, wanted[name], rtol=0, atol=2e-5 * scale, err_msg=name)
