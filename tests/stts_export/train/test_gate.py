import json
from pathlib import Path

import pytest
from reference.toy_training import STAGES, ToyRun

from stts_export.errors import TrainingError
from stts_export.train.gate import GateWatch
from stts_export.train.logs import read_log
from stts_export.train.recipe import Gate


def gated(accuracy: float, by_step: int) -> str:
    return STAGES["dense"] + f"gate = {{accuracy = {accuracy}, by_step = {by_step}}}\n"


def test_a_stage_that_does_not_learn_stops_at_its_gate_with_a_state_and_says_what_was_wanted(tmp_path: Path) -> None:
    toy = ToyRun(tmp_path, gated(1.0, 2))
    with pytest.raises(TrainingError, match=r"dense does not learn: \d+\.\d % right after 2 steps, wanted 100 %"):
        toy.train()
    stage = tmp_path / "run" / "dense"
    assert json.loads((stage / "state" / "state.json").read_text())["step"] == 2
    assert not (stage / "trained.safetensors").exists()


def test_it_does_not_go_on_when_it_is_merely_started_again(tmp_path: Path) -> None:
    toy = ToyRun(tmp_path, gated(1.0, 2))
    for resume in (False, True, True):
        with pytest.raises(TrainingError, match="or go on regardless: take the gate out of the stage, and --resume"):
            toy.train(resume=resume)
    toy.write_recipe("dense")
    assert toy.train(resume=True).finished


def test_a_gate_at_the_end_keeps_a_stage_from_being_finished(tmp_path: Path) -> None:
    toy = ToyRun(tmp_path, gated(1.0, 4), "pruned")
    with pytest.raises(TrainingError, match="dense does not learn"):
        toy.train()
    assert not (tmp_path / "run" / "pruned").exists()


def test_a_scorer_that_does_not_learn_stops_by_its_own_loss(tmp_path: Path) -> None:
    def toy(loss: float) -> ToyRun:
        return ToyRun(tmp_path / str(loss), STAGES["pruned"] + f"gate = {{auxiliary = {loss}, by_step = 2}}\n")

    with pytest.raises(TrainingError, match=r"auxiliary loss 0\.\d+ after 2 steps, wanted 1e-09 at most"):
        toy(1e-9).train()
    assert toy(10.0).train().finished


def test_what_was_reached_is_logged_and_enough_of_it_goes_on(tmp_path: Path) -> None:
    toy = ToyRun(tmp_path, gated(1e-9, 3).replace("steps = 4", "steps = 5").replace("1e-3", "1e-2"))
    stage = tmp_path / "run" / "dense"
    accuracy = None
    try:
        finished = toy.train().finished
    except TrainingError:
        finished = False
    for line in read_log(stage / "log.jsonl"):
        accuracy = line["gate"]["accuracy"] if "gate" in line else accuracy
    assert accuracy is not None
    assert finished == (accuracy > 0)


def test_a_gate_that_fewer_steps_no_longer_come_to_is_left_out(tmp_path: Path) -> None:
    toy = ToyRun(tmp_path, gated(1.0, 3))
    assert toy.train(overrides=(("steps", 2),)).finished


def test_the_last_tenth_of_the_steps_counts() -> None:
    watch = GateWatch(Gate(20, accuracy=0.5))
    for step in range(1, 30):
        watch.add(step, {"accuracy": {19: 0.5, 20: 0.75}.get(step, 0.0)})
    assert watch.line() == {"step": 20, "gate": {"accuracy": 0.625, "wanted": 0.5}}


def test_what_a_gate_has_seen_is_gone_on_from() -> None:
    gate = Gate(20, accuracy=0.5)
    first = GateWatch(gate)
    first.add(19, {"accuracy": 0.5})
    second = GateWatch(gate, first.seen)
    second.add(20, {"accuracy": 0.75})
    assert second.line()["gate"]["accuracy"] == 0.625


def test_dense_steps_say_nothing_of_the_scorer() -> None:
    watch = GateWatch(Gate(20, auxiliary=0.01))
    watch.add(19, {"auxiliary": 0.0})
    watch.add(20, {"auxiliary": 0.02})
    assert watch.line()["gate"]["auxiliary"] == 0.02


def test_a_stage_that_goes_on_past_the_gate_of_its_last_step_is_evaluated_there(tmp_path: Path) -> None:
    toy = ToyRun(tmp_path, gated(1.0, 4))
    with pytest.raises(TrainingError, match="dense does not learn"):
        toy.train()
    toy.write_recipe("dense")
    result = toy.train(resume=True)
    evaluated = [line["step"] for line in read_log(tmp_path / "run" / "dense" / "log.jsonl") if "evaluation" in line]
    assert (result.finished, evaluated) == (True, [3, 4])
