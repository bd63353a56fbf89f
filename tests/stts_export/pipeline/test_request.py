"""What a request means, and every request that cannot be met."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from reference.toy_bundle import toy_checkpoint, toy_config, write_toy_checkpoint, write_toy_recipe

from stts_export.errors import CheckpointError, RecipeError
from stts_export.pipeline.request import BuildRequest, keeps_grid, resolve
from stts_export.quantise.checkpoint import as_rounded
from stts_export.quantise.choice import roundings_of
from stts_runtime.bundle.manifest import EngineSettings, Limits, Pruning
from stts_runtime.errors import UsageError


DENSE, LEARNED = toy_config("qwen3", "none"), toy_config("qwen3", "learned")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Recipe and checkpoint of a dense and of a learned model."""
    folder = tmp_path_factory.mktemp("request")
    return {
        name: (write_toy_recipe(folder / f"{name}.toml", config), write_toy_checkpoint(folder / name, config))
        for name, config in (("dense", DENSE), ("learned", LEARNED))
    }


@pytest.fixture
def ask(made, tmp_path):
    def resolved(model="learned", **options):
        recipe, checkpoint = made[model]
        given = {"output": tmp_path / "toy.stts", "checkpoint": checkpoint, **options}
        if options.get("random_weights") is not None:
            given["checkpoint"] = options.get("checkpoint")
        return resolve(BuildRequest(model=str(recipe), **given), lambda stage, share: None)

    return resolved


def test_a_model_with_a_scorer_is_pruned_as_its_recipe_says(ask):
    resolved = ask()
    assert resolved.pruning == Pruning(0.5, "learned", soft_bias=True, packing="ffd", trained_fractions=(0.5, 0.5))
    assert resolved.config == LEARNED
    assert resolved.tokenizer.name == "tokenizer.json"
    assert resolved.checkpoint.layout == "trainer"


def test_a_dense_model_is_built_neither_dense_nor_pruned_unless_told(ask):
    with pytest.raises(UsageError, match=r"--prune 0 for a dense bundle, or --scorer cosine"):
        ask("dense")


def test_a_dense_model_is_built_dense_when_told(ask):
    resolved = ask("dense", prune=0)
    assert resolved.pruning == Pruning(0.0, "none", soft_bias=False, packing="none")


def test_a_model_with_a_scorer_is_built_dense_only_when_told_and_says_what_it_leaves(ask):
    resolved = ask(prune=0)
    assert resolved.pruning == Pruning(0.0, "none", False, "none", (0.5, 0.5))
    assert any("trained scorer" in note and "not used" in note for note in resolved.notes)


@pytest.mark.parametrize("scorer", ["cosine", "random"])
def test_a_dense_model_takes_a_scorer_that_needs_no_training_without_a_soft_bias(ask, scorer):
    assert ask("dense", scorer=scorer).pruning == Pruning(0.5, scorer, soft_bias=False, packing="ffd")
    assert ask("dense", scorer=scorer, prune=0.3, packing="ragged").pruning == Pruning(0.3, scorer, False, "ragged")


def test_a_training_free_scorer_in_place_of_the_models_own_has_no_soft_bias(ask):
    assert ask(scorer="cosine").pruning == Pruning(0.5, "cosine", False, "ffd", trained_fractions=(0.5, 0.5))
    assert ask(scorer="learned").pruning.soft_bias


def test_a_dense_model_asked_to_prune_without_a_scorer_is_refused_with_the_ways_out(ask):
    with pytest.raises(UsageError, match=r"no scorer to decide.*--scorer cosine.*--prune 0"):
        ask("dense", prune=0.5)


def test_a_learned_scorer_that_the_checkpoint_does_not_have_is_refused(ask):
    with pytest.raises(CheckpointError, match=r"no trained scorer.*--prune 0.*--scorer cosine"):
        ask("dense", scorer="learned")


@pytest.mark.parametrize("options", [{"scorer": "cosine"}, {"packing": "ragged"}], ids=str)
def test_a_dense_bundle_takes_neither_scorer_nor_packing(ask, options):
    with pytest.raises(UsageError, match="neither --scorer nor --packing"):
        ask(prune=0, **options)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"target": "cpuu"}, r"no recipe named 'cpuu' in targets\. Did you mean cpu\?"),
        ({"scorer": "cosin"}, r"--scorer cosin is unknown, did you mean cosine\? \(known: learned, cosine, random\)"),
        ({"scorer": "none"}, r"--scorer none is unknown.*known: learned"),
        ({"packing": "raged"}, r"--packing raged is unknown, did you mean ragged\? \(known: ffd, ragged\)"),
        ({"packing": "zzz"}, r"--packing zzz is unknown \(known"),
        ({"ops": "plugins"}, r"--ops plugins is unknown, did you mean plugin\? \(known: portable, plugin\)"),
        (
            {"weights": "int3"},
            r"--weights int3 is unknown, did you mean int8\? \(known: float, int8, int4, q4_1, fp8, nvfp4\)",
        ),
        (
            {"weights": "fp8"},
            "--weights fp8 is not for onnxruntime, which does not.*take int8 or int4 or q4_1, or a --target",
        ),
        (
            {"weights": "int4", "target": "l4", "backend": "onnxruntime"},
            "--weights int4 with onnxruntime is for a CPU, and target l4 is a GPU: take --backend tensorrt",
        ),
        (
            {"weights": "int4", "target": "l4", "precision": "float32"},
            "--weights int4 is for products in half precision, .*take --precision float16 or bfloat16",
        ),
        (
            {"weights": "fp8", "target": "rtx"},
            "--weights fp8 needs GPUs from SM 89 on, and target rtx has SM 86: take --weights int8 or int4",
        ),
        ({"weights": "fp8", "target": "jetson-orin"}, "from SM 89 on, and target jetson-orin has SM 87"),
        (
            {"weights": "nvfp4", "target": "l4"},
            "--weights nvfp4 needs GPUs from SM 100 on, and target l4 has SM 89: take --weights int8 or int4 or fp8",
        ),
        ({"keep_float": ("decoder.*",)}, "--keep-float names what is not rounded, and --weights float rounds nothing"),
        ({"calibration": "default"}, "--calibration is for weights that are rounded: add --weights int4"),
        ({"weights": "int4", "keep_float": ("tower.*",)}, r"--keep-float tower.\* matches no weight"),
        ({"ops": "plugin"}, "--ops plugin: the plugins are TensorRT's, and onnxruntime loads none"),
        ({"prune": 1.0}, r"--prune is 1.0, wanted a fraction in \[0, 1\)"),
        ({"prune": -0.1}, r"--prune is -0.1"),
        ({"prune": float("nan")}, "prune: wanted a number"),
        ({"max_frames": 0}, "--max-frames is 0, wanted at least 1"),
        ({"max_tokens": -5}, "--max-tokens is -5, wanted at least 1"),
        ({"max_tokens": 10**9}, "--max-tokens is 1000000000, model toy-qwen3 was made for at most"),
        ({"chunk_frames": 0}, "--chunk-frames is 0, wanted at least 1"),
        ({"chunk_frames": 10**12}, "--chunk-frames is 1000000000000, wanted at most 1048576"),
        ({"max_frames": 10**12}, "--max-frames is 1000000000000, wanted at most 1048576"),
        ({"max_frames": "8"}, "max_frames: wanted a whole number"),
        ({"random_weights": 1.5}, "random_weights: wanted a whole number"),
        ({"output": "toy.stts"}, "output: wanted Path, got 'toy.stts'"),
        ({"checkpoint": 5}, "checkpoint: wanted a path, or a name on a hub, got 5"),
        ({"verify": "no"}, "verify: wanted bool, got 'no'"),
        (
            {"checkpoint": Path("somewhere"), "random_weights": 1},
            "--checkpoint and --random-weights exclude each other",
        ),
        (
            {"checkpoint": None},
            r"brings no weights: add --checkpoint DIRECTORY, or its name on a hub, or --random-weights",
        ),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_options_that_cannot_work_are_refused_in_the_commands_own_words(ask, options, complaint):
    with pytest.raises(UsageError, match=complaint):
        ask(**options)


@pytest.mark.parametrize("name", ["toy", "toy.onnx", "toy.stts.zip"])
def test_a_bundle_must_be_named_like_one(ask, tmp_path, name):
    with pytest.raises(UsageError, match=r"must end in \.stts"):
        ask(output=tmp_path / name)


def test_a_model_that_is_neither_recipe_nor_checkpoint_is_refused(tmp_path):
    with pytest.raises(RecipeError, match="molmo2-4c"):
        resolve(BuildRequest("molmo2-4c", tmp_path / "toy.stts", random_weights=1), lambda stage, share: None)


def test_a_checkpoint_without_a_tokenizer_is_refused(made, tmp_path):
    recipe, checkpoint = made["dense"]
    bare = tmp_path / "bare"
    bare.mkdir()
    for file in checkpoint.glob("model*"):
        (bare / file.name).symlink_to(file)
    with pytest.raises(CheckpointError, match=r"no tokenizer\.json"):
        resolve(BuildRequest(str(recipe), tmp_path / "toy.stts", checkpoint=bare, prune=0), lambda stage, share: None)


def test_random_weights_need_no_checkpoint_and_have_no_tokenizer(ask):
    resolved = ask(random_weights=3)
    assert (resolved.checkpoint.layout, resolved.tokenizer) == ("random", None)
    assert any("answers are meaningless" in note for note in resolved.notes)


def test_limits_leave_room_for_every_frame_and_stay_within_what_the_model_was_made_for(ask):
    assert ask(max_frames=8, max_tokens=512, chunk_frames=3).limits == Limits(8, 512, 3)
    limits = ask(max_frames=8).limits
    assert limits.max_tokens >= 8 * LEARNED.grid.groups + 1024
    assert ask(max_frames=100_000).limits.max_tokens == LEARNED.decoder.max_positions


def test_large_models_keep_their_weights_mapped(ask, monkeypatch):
    assert ask().engine.prepack
    monkeypatch.setattr("stts_export.estimate.memory.PREPACK_BELOW_BYTES", 1000)
    assert not ask().engine.prepack


def test_what_a_bundle_takes_on_disk_is_known_before_they_are_read(ask):
    resolved = ask(random_weights=1)
    total = sum(4 * tensor.read().numel() for tensor in resolved.checkpoint.tensors.values())
    assert resolved.disk_bytes == total
    assert replace(resolved, config=DENSE).disk_bytes < total


def test_a_tokenizer_without_the_prompts_tokens_is_refused_before_anything_is_built(ask, made, tmp_path):
    folder = shutil.copytree(made["learned"][1], tmp_path / "checkpoint")
    file = folder / "tokenizer.json"
    whole = file.read_text()
    for missing in ("<|im_start|>", "<im_patch>"):
        file.write_text(whole.replace(missing, "<other>"))
        with pytest.raises(CheckpointError, match=rf"tokenizer\.json: .*{re.escape(missing)}"):
            ask(checkpoint=folder)


def test_a_recipe_that_forgets_what_closes_a_turn_is_built_with_it_and_a_note(ask, made, tmp_path):
    other = replace(LEARNED, tokens=replace(LEARNED.tokens, stop=(1,)))
    made["forgetful"] = (write_toy_recipe(tmp_path / "forgetful.toml", other), made["learned"][1])
    resolved = ask("forgetful")
    closing = LEARNED.tokens.stop[0]
    assert resolved.config.tokens.stop == (1, closing)
    assert f"the prompt closes a turn with token {closing}, so answers end at it too" in resolved.notes


def test_files_that_do_not_agree_on_what_ends_an_answer_are_noted(ask, made, tmp_path):
    folder = shutil.copytree(made["learned"][1], tmp_path / "checkpoint")
    (folder / "generation_config.json").write_text('{"eos_token_id": 1}')
    assert any("generation_config.json says 1" in note for note in ask(checkpoint=folder).notes)
    assert not any("not agreed" in note for note in ask().notes)


def test_four_bits_of_ggufs_are_kept_and_others_are_not():
    config = toy_config()
    engine = EngineSettings("onnxruntime", "cpu", "float32", prepack=True, weights="int4")
    floats = toy_checkpoint(config)
    on_grid = as_rounded(floats, roundings_of(replace(engine, weights="q4_1"), config))
    assert keeps_grid(engine, config, on_grid)
    assert not keeps_grid(engine, config, floats)
    assert not keeps_grid(replace(engine, weights="int8"), config, on_grid)
    assert not keeps_grid(replace(engine, backend="tensorrt"), config, on_grid)
