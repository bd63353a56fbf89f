"""Scales of a toy model: found a block at a time, kept on the way, found again."""

import errno
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from reference.toy_bundle import toy_checkpoint, toy_config
from reference.toy_tokenizer import trained_tokenizer
from reference.toy_training import write_toy_data
from tokenizers import Tokenizer as Library

from stts_export.calibrate import calibrate, store
from stts_export.calibrate.block import run_block
from stts_export.calibrate.calibrate import calibrated_scales, lies_on_grid
from stts_export.calibrate.material import read_material
from stts_export.calibrate.sequences import embedded_sequences
from stts_export.checkpoint.load import load_into
from stts_export.errors import CheckpointError, DiskError
from stts_export.graph.capture import weightless_model
from stts_export.models.prefix_attention import prefix_attention
from stts_export.quantise.checkpoint import as_rounded
from stts_export.quantise.rounding import Rounding
from stts_export.quantise.scaling import as_scaled, folds_of
from stts_export.train.forward import Pruning
from stts_runtime.language.tokenizer import Tokenizer


TOKENIZER = Tokenizer(Library.from_str(trained_tokenizer()))
CONFIG = toy_config()
ROUNDINGS = {
    name: Rounding(4, 16)
    for name in toy_checkpoint(CONFIG).tensors
    if name.startswith("decoder.blocks.") and "norm" not in name
}
PRUNING = Pruning(0.5, soft_bias=True)


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    data = write_toy_data(tmp_path_factory.mktemp("data"), clips=4)
    found = read_material(str(data), TOKENIZER, CONFIG)
    return replace(found, texts=(tuple(TOKENIZER.encode("What happens in the video?", specials=False)),))


def scales(material, cache, **others):
    given = {"config": CONFIG, "checkpoint": toy_checkpoint(CONFIG), "roundings": ROUNDINGS, "tokenizer": TOKENIZER}
    given |= {"material": material, "pruning": PRUNING, "cache": cache}
    return calibrated_scales(**(given | others))


@pytest.fixture(scope="module")
def expected(material, tmp_path_factory):
    return scales(material, tmp_path_factory.mktemp("cache"))


def test_blocks_run_one_by_one_give_what_the_decoder_gives(material):
    checkpoint = toy_checkpoint(CONFIG)
    model = weightless_model(CONFIG)
    made = embedded_sequences(model, checkpoint.tensors, material, TOKENIZER, PRUNING, lambda share: None)
    load_into(model, checkpoint)
    with torch.inference_mode():
        behind = made
        for index in range(CONFIG.decoder.layers):
            behind, inputs = run_block(model.decoder, index, behind, folds_of(CONFIG.decoder, index))
        ids = torch.tensor([material.texts[0]])
        positions = torch.arange(ids.shape[1])
        nothing = torch.zeros(1, CONFIG.decoder.width), torch.zeros_like(positions)
        flags = torch.zeros(len(positions), dtype=torch.bool)
        decoder = model.decoder
        wanted, _ = decoder.hidden_states(
            ids, *nothing, positions, positions, flags, decoder.empty_cache(), prefix_attention
        )
    torch.testing.assert_close(behind[-1].hidden, wanted, rtol=1e-4, atol=1e-4)
    tokens = sum(len(sequence.turns) for sequence in made)
    for fold in folds_of(CONFIG.decoder, CONFIG.decoder.layers - 1):
        assert inputs[fold.name].rows.shape == (tokens, fold.channels * fold.sharing)
        torch.testing.assert_close(inputs[fold.name].mean, inputs[fold.name].rows.abs().mean(0))


def test_rounded_after_scaling_the_decoder_is_nearer_to_itself(material, expected):
    checkpoint = toy_checkpoint(CONFIG)

    def last(weights):
        model = weightless_model(CONFIG)
        made = embedded_sequences(model, checkpoint.tensors, material, TOKENIZER, PRUNING, lambda share: None)
        load_into(model, weights)
        with torch.inference_mode():
            for index in range(CONFIG.decoder.layers):
                made, _ = run_block(model.decoder, index, made, ())
        return torch.cat([sequence.hidden[0] for sequence in made])

    floats, scaled = last(checkpoint), as_scaled(checkpoint, CONFIG.decoder, expected)
    errors = [float((last(as_rounded(one, ROUNDINGS)) - floats).norm()) for one in (checkpoint, scaled)]
    assert errors[1] < 0.95 * errors[0]


def test_an_interrupted_calibration_goes_on_where_it_was(material, expected, tmp_path, monkeypatch):
    def stop(stage, share):
        if stage == calibrate.STAGE:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scales(material, tmp_path, on_progress=stop)
    monkeypatch.setattr(calibrate, "embedded_sequences", None)  # clips are not seen again
    said = []
    got = scales(material, tmp_path, log=said.append)
    assert said == ["calibration goes on from block 1 of 2"]
    torch.testing.assert_close(got, expected, rtol=0, atol=0)
    monkeypatch.setattr(calibrate, "run_block", None)
    torch.testing.assert_close(scales(material, tmp_path), expected, rtol=0, atol=0)
    assert len(list((tmp_path / "calibration").iterdir())) == 1


def test_a_disk_that_fills_up_leaves_what_was_done_before(material, expected, tmp_path, monkeypatch):
    save, kept = store.save_file, []

    def full(tensors, file, metadata):
        if len(kept) == 2:
            Path(file).write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        kept.append(file)
        save(tensors, file, metadata=metadata)

    monkeypatch.setattr(store, "save_file", full)
    with pytest.raises(DiskError, match=r"could not be kept.*No space left.*STTS_EXPORT_CACHE=DIRECTORY"):
        scales(material, tmp_path)
    assert [file.suffixes for file in (tmp_path / "calibration").iterdir()] == [[".unfinished", ".safetensors"]]
    monkeypatch.setattr(store, "save_file", save)
    said = []
    torch.testing.assert_close(scales(material, tmp_path, log=said.append), expected, rtol=0, atol=0)
    assert said == ["calibration goes on from block 1 of 2"]


def test_damaged_results_are_made_again_and_other_weights_have_their_own(material, expected, tmp_path):
    scales(material, tmp_path)
    (file,) = (tmp_path / "calibration").iterdir()
    file.write_bytes(file.read_bytes()[:-1])
    torch.testing.assert_close(scales(material, tmp_path), expected, rtol=0, atol=0)
    other = toy_checkpoint(replace(CONFIG, name="other"))
    name = "decoder.blocks.0.mlp.up.weight"
    own = other.tensors[name]
    changed = replace(own, load=lambda: own.load() * 1.001)
    scales(material, tmp_path, checkpoint=replace(other, tensors={**other.tensors, name: changed}))
    assert len(list((tmp_path / "calibration").iterdir())) == 2


def test_a_layer_that_reads_what_is_not_finite_is_named(material, tmp_path):
    checkpoint = toy_checkpoint(CONFIG)
    name = "decoder.blocks.1.mlp_norm.weight"
    own = checkpoint.tensors[name]
    broken = replace(own, load=lambda: torch.full(own.shape, torch.inf))
    with pytest.raises(
        CheckpointError, match=r"blocks\.1\.mlp\.gate\.weight.*is NaN or infinite on a calibration clip"
    ):
        scales(material, tmp_path, checkpoint=replace(checkpoint, tensors={**checkpoint.tensors, name: broken}))


def test_weights_that_were_rounded_before_are_known():
    checkpoint = toy_checkpoint(CONFIG)
    assert not lies_on_grid(CONFIG, checkpoint, ROUNDINGS)
    assert lies_on_grid(CONFIG, as_rounded(checkpoint, ROUNDINGS), ROUNDINGS)
