import json
from pathlib import Path

import pytest
import torch

from stts_export.errors import DiskError, TrainingError
from stts_export.train.state import State, check_settings, generator_states, read_state, steps_done, write_state


def state(step: int) -> State:
    moments = {"exp_avg": torch.ones(2), "exp_avg_sq": torch.full((2,), 2.0), "step": torch.tensor(float(step))}
    return State(step, {"scorer.a": torch.arange(2.0)}, {"scorer.a": moments}, generator_states(), 1.5, (0.25, 3))


def test_a_state_reads_as_it_was_written_and_takes_the_place_of_the_one_before(tmp_path: Path):
    assert read_state(tmp_path) is None
    assert steps_done(tmp_path) == 0
    for step in (1, 2):
        write_state(tmp_path, state(step))
    read = read_state(tmp_path)
    assert read is not None
    assert (read.step, read.seconds, read.seen) == (2, 1.5, (0.25, 3))
    assert steps_done(tmp_path) == 2
    assert read.weights["scorer.a"].tolist() == [0, 1]
    assert {kind: tensor.tolist() for kind, tensor in read.moments["scorer.a"].items()} == {
        "exp_avg": [1, 1],
        "exp_avg_sq": [2, 2],
        "step": 2,
    }
    assert torch.equal(read.generators["torch"], torch.get_rng_state())
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


@pytest.mark.parametrize(
    ("file", "content"), [("state.json", "{}"), ("state.json", "[1]"), ("state.json", ""), ("tensors.safetensors", "x")]
)
def test_a_damaged_state_says_what_to_do(tmp_path: Path, file: str, content: str):
    write_state(tmp_path, state(1))
    (tmp_path / "state" / file).write_text(content)
    with pytest.raises(TrainingError, match=r"cannot be read .* Remove it to begin the stage anew"):
        read_state(tmp_path)


def test_a_state_that_cannot_be_written_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_state(tmp_path, state(1))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("stts_export.train.state.save_file", full)
    with pytest.raises(DiskError, match="the state of step 2 could not be written"):
        write_state(tmp_path, state(2))
    read = read_state(tmp_path)
    assert read is not None
    assert read.step == 1


def test_other_settings_are_all_named(tmp_path: Path):
    file = tmp_path / "stage" / "settings.json"
    check_settings(file, {"a": 1, "b": (1, 2), "c": None})
    check_settings(file, {"a": 1, "b": (1, 2), "c": None})
    with pytest.raises(TrainingError, match=r"a: was 1, now 2\n  c: was None, now 3"):
        check_settings(file, {"a": 2, "b": (1, 2), "c": 3})
    assert json.loads(file.read_text())["a"] == 1


def test_damaged_settings_are_told(tmp_path: Path):
    (tmp_path / "settings.json").write_text("{")
    with pytest.raises(TrainingError, match="Begin anew with another -o RUN"):
        check_settings(tmp_path / "settings.json", {"a": 1})
