import os
import signal
import subprocess
from dataclasses import replace
from multiprocessing import active_children
from pathlib import Path

import pytest
import torch
from reference.toy_training import FRAMES, write_toy_data

from stts_export.data.read import open_questions
from stts_export.data.records import clips_of
from stts_export.errors import DataError, TrainingError
from stts_export.train.data_loader import Clips, batches, positions_of, stage_seed
from stts_runtime.bundle.manifest import FrameSampling, Grid


SAMPLING = FrameSampling("uniform", max_frames=8, max_fps=2.0)
GRID = Grid(image_size=126, patch_size=14, pool=3)


def toy_clips(data: Path, frames: int = 3, patch_classes: bool = False, shuffled: tuple[int, int] | None = (7, 2)):
    questions = open_questions(data, "train")
    return Clips(data, clips_of(questions), SAMPLING, GRID, frames, patch_classes, shuffled)


def test_every_epoch_shows_every_clip_once_in_another_order(tmp_path: Path):
    clips = toy_clips(write_toy_data(tmp_path / "data"))
    epochs = [[clips.questions(6 * epoch + place)[0].clip for place in range(6)] for epoch in range(3)]
    assert all(len(set(epoch)) == 6 for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_questions_are_drawn_anew_each_epoch_up_to_the_number_wanted(tmp_path: Path):
    clips = toy_clips(write_toy_data(tmp_path / "data"))
    asked = [clips.questions(place) for place in range(60)]
    assert all(len(set(questions)) == 2 and len({q.clip for q in questions}) == 1 for questions in asked)
    assert len({q.kind for questions in asked for q in questions}) == 3
    assert asked == [clips.questions(place) for place in range(60)]


def test_processes_share_a_step_without_overlap():
    shares = [positions_of(3, 8, rank, 4) for rank in range(4)]
    assert sorted(place for share in shares for place in share) == positions_of(3, 8) == list(range(24, 32))


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_hold_what_single_examples_hold(tmp_path: Path, workers: int):
    clips = toy_clips(write_toy_data(tmp_path / "data"), patch_classes=True)
    before = torch.get_rng_state()
    with batches(clips, [[0, 5], [7, 11]], workers, pinned=False) as reading:
        read = list(reading)
    assert torch.equal(before, torch.get_rng_state())
    for batch, places in zip(read, [[0, 5], [7, 11]], strict=True):
        for example, wanted in zip(batch.examples(torch.device("cpu")), map(clips.__getitem__, places), strict=True):
            assert torch.equal(example.frames, wanted.frames)
            assert example.frames.shape == (3, 126, 126, 3)
            assert torch.equal(example.patch_classes, wanted.patch_classes)
            assert example.questions == wanted.questions
            assert (example.timestamps == wanted.timestamps).all()


def test_workers_end_with_their_block_whoever_still_holds_the_batches(tmp_path: Path):
    clips = toy_clips(write_toy_data(tmp_path / "data"))
    held = []

    def fail():
        with batches(clips, [[0], [1], [2], [3]], 2, pinned=False) as read:
            held.append((read, next(read)))
            assert len(active_children()) == 2
            raise ValueError("elsewhere")

    with pytest.raises(ValueError, match="elsewhere"):
        fail()
    assert not active_children()  # one that lives on would keep Python from ending: it ignores the signal to end


class Deadly(Clips):
    def __getitem__(self, place: int):
        if place:
            os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does where memory is exhausted
        return super().__getitem__(place)


def test_a_worker_that_was_killed_is_told(tmp_path: Path):
    clips = Deadly(**vars(toy_clips(write_toy_data(tmp_path / "data"))))

    def read_all():
        with batches(clips, [[0], [0], [1], [0]], 2, pinned=False) as read:
            list(read)

    with pytest.raises(TrainingError, match=r"a process that reads clips ended .* fewer --workers than 2"):
        read_all()
    assert not active_children()


def test_a_clip_with_fewer_frames_than_wanted_gives_all_it_has(tmp_path: Path):
    clips = toy_clips(write_toy_data(tmp_path / "data"), frames=64)
    slow = replace(clips, sampling=replace(SAMPLING, max_fps=0.5))  # the clip has two frames a second
    assert [len(one[0].frames) for one in (clips, slow)] == [FRAMES, FRAMES]


def test_missing_patch_classes_are_told(tmp_path: Path):
    clips = toy_clips(write_toy_data(tmp_path / "data", labelled=False), patch_classes=True)
    with pytest.raises(DataError, match="no patch classes, which the objectives patch_classes and oracle learn from"):
        clips[0]


def test_stages_see_different_orders():
    assert stage_seed(1, "a") != stage_seed(1, "b") != stage_seed(2, "b")


def test_the_order_does_not_depend_on_the_process(tmp_path: Path):
    import sys

    code = "from stts_export.train.data_loader import stage_seed; print(stage_seed(3, 'dense'))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(printed) == stage_seed(3, "dense")


def test_how_many_frames_are_taken_is_drawn_for_all_clips_of_a_step(tmp_path: Path):
    clips = replace(toy_clips(write_toy_data(tmp_path / "data"), frames=2), longer=(4, 3))
    taken = [[len(clips[place].frames) for place in range(3 * step, 3 * step + 3)] for step in range(12)]
    assert all(len(set(step)) == 1 for step in taken)
    assert {step[0] for step in taken} == {2, 3, 4}
    assert taken[4] == [len(clips[place].frames) for place in (12, 13, 14)]
