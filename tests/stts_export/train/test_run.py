import json
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from reference.toy_bundle import toy_config, write_toy_recipe
from reference.toy_training import STAGES, ToyRun
from safetensors import safe_open
from safetensors.torch import load_file

from stts_export.checkpoint.open import open_checkpoint
from stts_export.errors import CheckpointError, DataError, TrainingError
from stts_export.models.model import Model
from stts_export.train import loop as loop_module
from stts_export.train.logs import read_log
from stts_export.train.memory import clips_fit
from stts_export.train.recipe import read_training_recipe
from stts_export.train.request import TrainRequest, recipe_of
from stts_runtime.errors import UsageError


SMOKE = Path(__file__).parents[2] / "smoke" / "smoke.toml"


TIMES = ("clips_per_second", "tokens_per_second", "step_seconds", "wait_seconds", "seconds", "evaluation")


def trained(toy: ToyRun, stage: str, output: str = "run") -> dict[str, torch.Tensor]:
    return load_file(toy.folder / output / stage / "trained.safetensors")


def log(toy: ToyRun, stage: str, output: str = "run") -> list[dict]:
    lines = read_log(toy.folder / output / stage / "log.jsonl")
    return [{key: value for key, value in line.items() if key not in TIMES} for line in lines]


def interrupting(toy: ToyRun, at: str) -> None:
    """Let Ctrl-C come when the run says so."""

    class Listener(list):
        def append(self, text: str) -> None:
            super().append(text)
            if at in text:
                signal.raise_signal(signal.SIGINT)

    toy.said = Listener()


@pytest.mark.parametrize("stage", ["tower", "dense", "pruned", "drawn", "oracle"])
def test_a_resumed_stage_ends_with_the_same_bytes_as_an_uninterrupted_one(tmp_path: Path, stage: str):
    toy = ToyRun(tmp_path, stage)
    toy.train("whole")
    interrupting(toy, "step 1/4")
    stopped = toy.train("parts")
    assert (stopped.stopped_by, stopped.finished, stopped.stages[0].step) == (signal.SIGINT, False, 2)
    assert (tmp_path / "parts" / stage / "state").is_dir()
    toy.said = []
    resumed = toy.train("parts", resume=True)
    assert resumed.finished
    assert f"{stage}: goes on from step 2" in toy.said
    whole, parts = trained(toy, stage, "whole"), trained(toy, stage, "parts")
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert log(toy, stage, "whole") == log(toy, stage, "parts")
    assert not (tmp_path / "parts" / stage / "state").exists()


def test_stages_run_one_by_one_as_in_one_go(tmp_path: Path):
    toy = ToyRun(tmp_path, "tower", "pruned")
    toy.train("whole")
    toy.train("parts", stages=("tower",))
    toy.train("parts", stages=("pruned",), workers=1)
    whole, parts = trained(toy, "pruned", "whole"), trained(toy, "pruned", "parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_the_written_model_is_the_base_with_what_was_trained_and_merged_adapters(tmp_path: Path):
    toy = ToyRun(tmp_path, "tower", "pruned")
    result = toy.train()
    folder = tmp_path / "run" / "pruned" / "model"
    assert result.stages[-1].model == str(folder)
    assert (folder / "tokenizer.json").is_file()
    config = toy_config("qwen3", "learned")
    written = open_checkpoint(folder, config).tensors
    base = open_checkpoint(toy.checkpoint, config).tensors
    changed = trained(toy, "pruned")
    name = "decoder.blocks.1.mlp.up.weight"
    wanted = base[name].read() + 2.0 * changed[f"{name}.lora_b"] @ changed[f"{name}.lora_a"]
    torch.testing.assert_close(written[name].read(), wanted)
    assert not torch.equal(wanted, base[name].read())
    for name in ("vision_tower.blocks.0.mlp.up.weight", "scorer.mlp.first.weight", "connector.pool.query.bias"):
        assert torch.equal(written[name].read(), changed[name])
        assert not torch.equal(written[name].read(), base[name].read())
    assert torch.equal(written["decoder.embedding.weight"].read(), base["decoder.embedding.weight"].read())


def test_only_parts_with_a_learning_rate_change(tmp_path: Path):
    stage = STAGES["pruned"].replace("vision_tower = 1e-3, connector = 1e-3, ", "").replace(", decoder = 1e-2", "")
    toy = ToyRun(tmp_path, "\n".join(line for line in stage.splitlines() if not line.startswith("lora")))
    toy.train()
    assert {name.split(".")[0] for name in trained(toy, "pruned")} == {"scorer"}


def test_adapters_are_trained_on_by_the_next_stage_and_merged_by_one_without(tmp_path: Path):
    second = STAGES["pruned"].replace('"pruned"', '"second"')
    full = STAGES["dense"].replace('"dense"', '"full"')
    toy = ToyRun(tmp_path, "pruned", second, full)
    toy.train()
    name = "decoder.blocks.0.attention.query.weight"
    first, then, merged = (trained(toy, stage) for stage in ("pruned", "second", "full"))
    assert first.keys() == then.keys()
    assert not torch.equal(first[f"{name}.lora_b"], then[f"{name}.lora_b"])
    assert not any("lora" in key for key in merged)
    base = open_checkpoint(toy.checkpoint, toy_config()).tensors[name].read()
    # four steps at small rates stay near where they began
    torch.testing.assert_close(
        merged[name], base + 2.0 * then[f"{name}.lora_b"] @ then[f"{name}.lora_a"], atol=4e-3, rtol=0
    )
    with safe_open(tmp_path / "run" / "second" / "trained.safetensors", "pt") as file:
        assert file.metadata()["lora_scale"] == "2.0"
        assert len(file.metadata()["vocabulary"]) == 16  # of which tokenizer it was trained with


def test_adapters_of_another_rank_are_refused(tmp_path: Path):
    second = STAGES["pruned"].replace('"pruned"', '"second"').replace("rank = 2", "rank = 4")
    toy = ToyRun(tmp_path, "pruned", second)
    with pytest.raises(TrainingError, match="adapters of rank 2 with scale 2; this one wants rank 4 with scale 1"):
        toy.train()


def test_resume_with_other_settings_names_those_that_differ(tmp_path: Path):
    toy = ToyRun(tmp_path, "dense")
    interrupting(toy, "step 1/4")
    toy.train()
    toy.write_recipe(STAGES["dense"].replace("connector = 1e-3", "connector = 2e-3"), seed=6)
    with pytest.raises(TrainingError, match="other settings") as raised:
        toy.train(resume=True)
    assert "learning_rates: was" in str(raised.value)
    assert "seed: was 5, now 6" in str(raised.value)
    assert "clips_per_step" not in str(raised.value)


def test_a_stage_may_be_resumed_with_fewer_clips_a_pass(tmp_path: Path):
    toy = ToyRun(tmp_path, "dense")
    interrupting(toy, "step 1/4")
    toy.train()
    assert toy.train(resume=True, overrides=(("micro_clips", 1),)).finished


def test_a_run_that_was_begun_is_not_begun_over(tmp_path: Path):
    toy = ToyRun(tmp_path, "tower")
    toy.train()
    with pytest.raises(UsageError, match="holds stage tower already: go on with --resume"):
        toy.train()
    toy.said = []
    assert toy.train(resume=True).finished
    assert "tower: finished before" in toy.said


def test_a_finished_stage_tells_with_which_other_settings_it_was_trained(tmp_path: Path):
    toy = ToyRun(tmp_path, "tower", "dense")
    toy.train(overrides=(("steps", 1),))
    toy.said = []
    toy.train(resume=True, overrides=(("steps", 2),))
    assert [text.partition(" (")[0] for text in toy.said] == [
        f"{stage}: finished before, with other settings" for stage in ("tower", "dense")
    ]
    assert all("(steps: was 1, now 2)" in text for text in toy.said)


def test_a_stage_whose_start_is_not_trained_says_what_to_train_first(tmp_path: Path):
    toy = ToyRun(tmp_path, "tower", "dense")
    with pytest.raises(TrainingError, match=r"stage tower has not been finished. Train it first"):
        toy.train(stages=("dense",))


def test_a_stage_that_the_recipe_lacks_is_named(tmp_path: Path):
    toy = ToyRun(tmp_path, "tower", "dense")
    with pytest.raises(UsageError, match=r"no stage 'tover'. Did you mean tower"):
        toy.train(stages=("tover",))


def test_minutes_that_are_over_stop_the_run_with_a_state(tmp_path: Path):
    toy = ToyRun(tmp_path, "dense")
    # an hour goes by between two looks at the clock; step 2 is told while step 3 is under way
    result = toy.train(minutes=60, clock=lambda: 3600.0 * any("step 2/4" in text for text in toy.said))
    assert (result.finished, result.stopped_by, result.stages[0].step) == (False, None, 3)
    assert json.loads((tmp_path / "run" / "dense" / "state" / "state.json").read_text())["step"] == 3


def test_a_loss_that_is_not_finite_stops_the_run_before_anything_of_it_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    toy = ToyRun(tmp_path, STAGES["dense"] + "checkpoint_every = 1\n")
    clips: list[list[str]] = []

    def spoilt(module, plain, examples, *others):
        values, tokens = gradients(module, plain, examples, *others)
        clips.append([example.questions[0].clip for example in examples])
        if len(clips) == 3:
            values[0] = float("nan")
        return values, tokens

    gradients = loop_module.gradients
    monkeypatch.setattr(loop_module, "gradients", spoilt)
    with pytest.raises(TrainingError, match="stage dense, step 3: loss nan") as raised:
        toy.train()
    assert ", ".join(clips[2]) in str(raised.value)
    assert json.loads((tmp_path / "run" / "dense" / "state" / "state.json").read_text())["step"] == 2


def test_exhausted_memory_names_the_next_smaller_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    toy = ToyRun(tmp_path, "dense")

    def exhausted(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(loop_module, "gradients", exhausted)
    with pytest.raises(TrainingError, match=r"step 1: out of memory. Set micro_clips = 1 in the stage \(now 2\)"):
        toy.train()
    with pytest.raises(TrainingError, match="micro_clips is 1 already: set activation_checkpoints = true"):
        toy.train(resume=True, overrides=(("micro_clips", 1),))


def test_a_step_takes_no_more_clips_at_once_than_a_process_has():
    stage = read_training_recipe(SMOKE).stages[0]
    with pytest.raises(TrainingError, match=r"micro_clips = 2 in the stage \(now 4\)"), clips_fit(stage, 0, 2):
        raise MemoryError
    with pytest.raises(ValueError, match="other"), clips_fit(stage, 0, 1):
        raise ValueError("other")


def test_weights_that_do_not_fit_are_not_blamed_on_the_clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    toy = ToyRun(tmp_path, "dense")

    def exhausted(*_):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(torch.optim.AdamW, "step", exhausted)
    with pytest.raises(TrainingError, match="leave out a part's learning rate, give the decoder lora, or share"):
        toy.train()


def test_weights_of_another_model_are_refused(tmp_path: Path):
    toy = ToyRun(tmp_path, "dense")
    config = toy_config("qwen3", "learned")
    other = replace(config, decoder=replace(config.decoder, mlp_width=2 * config.decoder.mlp_width))
    with pytest.raises(CheckpointError, match="Does the recipe belong to this checkpoint"):
        toy.train(model=str(write_toy_recipe(tmp_path / "other.toml", other)))


def test_a_clip_damaged_after_the_start_is_named_by_the_worker_that_reads_it(tmp_path: Path):
    toy = ToyRun(tmp_path, "dense")
    for clip in (toy.data / "clips").iterdir():
        clip.write_bytes(b"torn")
    with pytest.raises(DataError, match=r"^\S+\.zip cannot be read as a clip"):
        toy.train(workers=1)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"minutes": 0.0}, "--minutes is 0; wanted more than 0"),
        ({"minutes": float("nan")}, "--minutes is nan"),
        ({"workers": -1}, "--workers is -1; wanted 0"),
        ({"workers": 10**6}, "--workers is 1000000; wanted 0"),
        ({"overrides": (("steps", 0),)}, r"stages\[0\].steps is 0"),
    ],
)
def test_impossible_options_are_refused(tmp_path: Path, values: dict, told: str):
    request = TrainRequest(str(SMOKE), tmp_path, tmp_path / "run", **values)
    with pytest.raises(UsageError, match=told):
        recipe_of(request)


def test_patch_classes_that_are_not_there_are_told_before_training(tmp_path: Path):
    from reference.toy_training import write_toy_data

    toy = ToyRun(tmp_path, "tower")
    toy.data = write_toy_data(tmp_path / "bare", labelled=False)
    with pytest.raises(DataError, match="names no patch classes"):
        toy.train()


def test_random_weights_need_a_tokenizer(tmp_path: Path):
    toy = ToyRun(tmp_path, "dense")
    with pytest.raises(UsageError, match=r"nowhere.json: there is no such file"):
        toy.train(checkpoint=None, random_weights=0, tokenizer=tmp_path / "nowhere.json")
    with pytest.raises(UsageError, match="add --tokenizer FILE"):
        toy.train(checkpoint=None, random_weights=0)
    tokenizer = toy.checkpoint / "tokenizer.json"
    assert toy.train(checkpoint=None, random_weights=0, tokenizer=tokenizer, overrides=(("steps", 1),)).finished


def test_a_killed_swap_of_states_is_finished_on_resume(tmp_path: Path):
    toy = ToyRun(tmp_path, "dense")
    interrupting(toy, "step 1/4")
    toy.train()
    folder = tmp_path / "run" / "dense"
    (folder / "state").rename(folder / ".state-replaced")  # killed between the two renames
    toy.said = []
    assert toy.train(resume=True).finished
    assert "dense: goes on from step 2" in toy.said


def test_the_model_has_the_parameters_that_are_trained(tmp_path: Path):
    toy = ToyRun(tmp_path, "dense")
    toy.train()
    names = {name for name, _ in Model(toy_config("qwen3", "learned")).named_parameters() if "scorer" not in name}
    assert trained(toy, "dense").keys() == names


def test_blocks_that_are_run_again_in_the_backward_pass_change_nothing(tmp_path: Path):
    toy = ToyRun(tmp_path, "pruned")
    toy.train("plain")
    toy.train("spared", overrides=(("activation_checkpoints", True),))
    plain, spared = trained(toy, "pruned", "plain"), trained(toy, "pruned", "spared")
    assert all(torch.equal(plain[name], spared[name]) for name in plain)


def test_passes_of_fewer_clips_add_up_to_the_same_step(tmp_path: Path):
    toy = ToyRun(tmp_path, "dense")
    toy.train("whole")
    toy.train("passes", overrides=(("micro_clips", 1),))
    logs = [[line for line in log(toy, "dense", run) if "loss" in line] for run in ("whole", "passes")]
    for one, other in zip(*logs, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-4)
        assert other["gradient_norm"] == pytest.approx(one["gradient_norm"], rel=1e-3)


def test_training_works_under_bfloat16_autocast_and_keeps_weights_in_float32(tmp_path: Path):
    toy = ToyRun(tmp_path, "pruned")
    toy.train(overrides=(("precision", "bfloat16"), ("steps", 2)))
    assert all(tensor.dtype == torch.float32 for tensor in trained(toy, "pruned").values())
    assert json.loads((tmp_path / "run" / "pruned" / "settings.json").read_text())["precision"] == "bfloat16"


def test_evaluations_tell_the_accuracy_at_each_share_that_is_wanted(tmp_path: Path):
    toy = ToyRun(tmp_path, "drawn")
    evaluation = toy.train().stages[0].evaluation
    assert list(evaluation["by_fraction"]) == ["0.5", "0"]
    assert evaluation["accuracy"] == evaluation["by_fraction"]["0.5"]
    assert evaluation["count"] == 4
    assert any(text.startswith("drawn step 4: validation accuracy") and text.endswith(" at 0") for text in toy.said)


def test_an_oracle_leaves_tower_and_scorer_as_they_were(tmp_path: Path):
    toy = ToyRun(tmp_path, "oracle")
    toy.train()
    assert {name.split(".")[0] for name in trained(toy, "oracle")} == {"connector", "decoder"}


def test_another_seed_than_the_recipes_is_taken_and_recorded(tmp_path: Path):
    toy = ToyRun(tmp_path, "dense")
    toy.train("own")
    toy.train("other", seed=6)
    name = "decoder.blocks.0.mlp.up.weight"
    assert not torch.equal(trained(toy, "dense", "own")[name], trained(toy, "dense", "other")[name])
    assert json.loads((tmp_path / "other" / "dense" / "settings.json").read_text())["seed"] == 6
    with safe_open(tmp_path / "other" / "dense" / "trained.safetensors", "pt") as file:
        assert file.metadata()["seed"] == "6"


def test_which_stages_are_chosen_is_no_setting_of_any(tmp_path: Path):
    quiet = STAGES["dense"].replace('"dense"', '"quiet"').replace("evaluate_questions = 4", "evaluate_questions = 0")
    toy = ToyRun(tmp_path, quiet, "pruned")
    interrupting(toy, "step 1/4")
    assert not toy.train(stages=("quiet",)).finished
    toy.said = []
    assert toy.train(resume=True).finished
    assert "quiet: goes on from step 2" in toy.said
    toy.said = []
    toy.train(resume=True, stages=("quiet",))
    assert toy.said == ["quiet: finished before"]


def test_steps_that_are_told_are_those_that_were_taken(tmp_path: Path):
    toy = ToyRun(tmp_path, "dense", "pruned")
    toy.train(stages=("dense",), overrides=(("steps", 2),))
    interrupting(toy, "pruned step 1/4")
    toy.train(resume=True)
    late = toy.train(resume=True, minutes=1e-9)
    assert [(stage.name, stage.finished, stage.step, stage.steps) for stage in late.stages] == [
        ("dense", True, 2, 2),
        ("pruned", False, 2, 4),
    ]


def test_words_of_classes_are_found_before_any_stage(tmp_path: Path):
    named = STAGES["tower"].replace('"tower"', '"words"').replace("vision_tower = 1e-3", "connector = 1e-3")
    toy = ToyRun(tmp_path, "tower", named)
    (toy.data / "dataset.json").unlink()
    with pytest.raises(DataError, match=r"dataset\.json names no patch classes"):
        toy.train()
    assert not (tmp_path / "run").exists()
