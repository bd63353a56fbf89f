"""Sprites: pixels, truth, questions and words fit each other, and neither text nor one frame gives answers away."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from stts_export.data.domains import sprites
from stts_export.data.domains.sprites_plan import COLOURS, DIRECTIONS, FLASH
from stts_export.data.generate import generate
from stts_export.data.leaks import measure_leaks
from stts_export.data.read import open_info, open_questions
from stts_export.data.recipe import read_data_recipe
from stts_export.data.select import select
from stts_export.recipe.assembly import words_of
from stts_runtime.bundle.manifest import FrameSampling
from stts_runtime.clip.frame_sampling import sample_frames


RECIPE = read_data_recipe("nano")
SCENARIOS = (*sprites.SCENARIOS, *sprites.HELD_OUT)
TABLE = sprites.classes(RECIPE)
FPS, FRAMES, SIDE, GROUP = RECIPE.fps, RECIPE.frames, RECIPE.label_side, 24
SAMPLINGS = [
    sample_frames(FrameSampling(method, count, FPS), FRAMES, FPS, frames=exactly).indices
    for count in range(FRAMES // 2, FRAMES + 1)
    for method, exactly in (("uniform_last_frame", None), ("uniform", None), ("uniform_last_frame", count))
]


@pytest.fixture(scope="module")
def rendered():
    specs = [(seed, SCENARIOS[seed % len(SCENARIOS)]) for seed in range(200)]
    return list(sprites.render_clips(RECIPE, specs))


def asked(clip, kind):
    """The (text, answer) of a clip's questions of one kind, scored or not."""
    rng = np.random.default_rng(0)
    scored = [item.candidate for item in sprites.ask(RECIPE, 0, clip.truth, rng)]
    told = [one for _ in range(12) for one in sprites.lessons(RECIPE, clip.truth, rng)]
    return sorted({(one.text, one.answer) for one in (*scored, *told) if one.kind == kind})


def centroids(clip, name):
    """float64 [F, 2], the mean (column, row) of the patches of a class, NaN where there are none."""
    shown = (clip.classes == 1 + TABLE.index(name)).reshape(FRAMES, SIDE, SIDE)
    return np.array([[part.mean() if len(part) else np.nan for part in np.nonzero(frame)[::-1]] for frame in shown])


def objects(clip):
    return [thing for thing in clip.truth.things if not thing.flash]


def test_the_same_seed_gives_the_same_clip(rendered):
    (again,) = sprites.render_clips(RECIPE, [(3, SCENARIOS[3])])
    assert again.truth == rendered[3].truth
    np.testing.assert_array_equal(again.frames, rendered[3].frames)
    np.testing.assert_array_equal(again.classes, rendered[3].classes)


def test_patches_of_a_class_show_its_colour(rendered):
    for clip in rendered:
        patches = clip.frames.reshape(FRAMES, SIDE, 12, SIDE, 12, 3).swapaxes(2, 3).reshape(-1, 144, 3)
        for index in set(clip.classes.flat) - {0}:
            shown = patches[clip.classes.ravel() == index] == COLOURS[TABLE[index - 1].split()[0]]
            assert shown.all(axis=-1).mean(axis=-1).min() >= 0.15


def test_whatever_is_whole_in_view_is_labelled(rendered):
    for clip in rendered:
        for thing in clip.truth.things:
            labelled = (clip.classes == 1 + TABLE.index(thing.name)).any(axis=1)
            assert labelled[np.array(thing.area) > 0.9 * max(thing.area)].all()


def test_things_outshine_flicker_and_ground_and_never_cover_each_other(rendered):
    dark = sprites.BRIGHTEST
    assert min(max(colour) for colour in COLOURS.values()) >= dark + 70
    for clip in rendered:
        covered = sum(np.array(thing.area) for thing in clip.truth.things) * RECIPE.width * RECIPE.height
        np.testing.assert_allclose((clip.frames.max(axis=-1) > dark).sum(axis=(1, 2)), covered, atol=1)


def test_more_than_half_of_the_groups_flicker(rendered):
    shares = []
    for clip in rendered:
        changed = (np.diff(clip.frames.astype(int), axis=0) != 0).any(axis=-1)
        changed = changed.reshape(FRAMES - 1, 4, GROUP, 4, GROUP).mean(axis=(2, 4))
        things = (clip.classes > 0).reshape(FRAMES, 4, 2, 4, 2).any(axis=(2, 4))
        shares.append((changed >= 0.25)[~(things[1:] | things[:-1])].mean())
    assert 0.55 < np.mean(shares) < 0.7
    assert np.std(shares) > 0.1


def test_what_neither_flickers_nor_shows_a_thing_is_still(rendered):
    changed = [(np.diff(clip.frames.astype(int), axis=0) != 0).any(axis=-1).any(axis=0) for clip in rendered]
    assert np.mean([1 - area.mean() for area in changed]) > 0.25


def test_every_clip_is_asked_of_one_thing_that_stays_and_one_that_does_not(data):
    lessons = [question for question in open_questions(data, "train") if question.kind == "stays"]
    by_clip = Counter((question.clip, question.answer) for question in lessons)
    assert set(by_clip.values()) == {1}
    assert {answer for _, answer in by_clip} == {"yes", "no"}


def test_every_clip_has_two_things_that_stay_or_more(rendered):
    numbers = Counter()
    for clip in rendered:
        stay = [thing for thing in objects(clip) if thing.moves is None and all(thing.area)]
        for thing in stay:
            assert len({*zip(thing.area, thing.x, thing.y, strict=True)}) == 1
        ((_, answer),) = asked(clip, "count")
        assert answer == {2: "two", 3: "three", 4: "four"}[len(stay)]
        numbers[answer] += 1
    assert min(numbers.values()) > 40


def test_a_name_means_one_thing(rendered):
    for clip in rendered:
        assert len({thing.name for thing in clip.truth.things}) == len(clip.truth.things)


def test_labels_tell_the_direction_that_is_answered(rendered):
    for clip in rendered:
        ((text, answer),) = asked(clip, "direction")
        name = next(thing.name for thing in objects(clip) if thing.moves)
        assert name in text
        for indices in SAMPLINGS:
            track = centroids(clip, name)[indices]
            track = track[~np.isnan(track[:, 0])]
            assert len(track) >= 3
            way = track[-1] - track[0]
            main = np.abs(way).argmax()
            assert np.sign(way[main]) == DIRECTIONS[answer][main]
            assert DIRECTIONS[answer][1 - main] == 0


def test_every_sampling_shows_flashes_in_their_order_and_what_vanishes(rendered):
    for clip in rendered:
        ((_, first),) = asked(clip, "first")
        assert asked(clip, "first_colour") == [("What colour flashes first?", first)]
        ((_, gone),) = asked(clip, "vanish")
        for indices in SAMPLINGS:
            seen = {
                TABLE[index - 1]: np.flatnonzero((clip.classes[indices] == index).any(axis=1))
                for index in set(clip.classes[indices].flat) - {0}
            }
            flashes = sorted((frames[0], name) for name, frames in seen.items() if FLASH in name)
            assert len(flashes) == 2
            assert flashes[0][0] < flashes[1][0]
            assert flashes[0][1] == f"{first} {FLASH}"
            vanished = [
                thing.name.split()[0]
                for thing in objects(clip)
                if seen[thing.name][0] == 0 and seen[thing.name][-1] < len(indices) - 1
            ]
            assert vanished == ([] if gone == "nothing" else [gone])


def test_what_vanishes_is_small_for_two_frames_before_where_every_sampling_shows_it(rendered):
    found = 0
    for clip in rendered:
        for thing in objects(clip):
            if thing.moves or all(thing.area):
                continue
            gone = thing.area.index(0)
            small = {gone - 2, gone - 1}
            assert set(thing.area[: gone - 2]) == {thing.area[0]}
            assert all(0.4 < thing.area[frame] / thing.area[0] < 0.75 for frame in small)
            assert not any(thing.area[gone:])
            assert not small & {0, FRAMES // 2, FRAMES - 1}
            assert all(small & set(indices.tolist()) for indices in SAMPLINGS)
            found += 1
    assert found > 100


def test_times_are_those_of_frames_that_show_it(rendered):
    for clip in rendered:
        for text, answer in asked(clip, "flash_at"):
            frame = round(float(words_of(text)[-2]) * FPS)
            shown = {TABLE[index - 1] for index in set(clip.classes[frame].tolist()) - {0}}
            assert {name.split()[0] for name in shown if FLASH in name} == {answer} - {"nothing"}
        for text, answer in asked(clip, "flash_when"):
            *_, colour, _, _, _ = words_of(text)
            assert f"{colour} {FLASH}" in {
                TABLE[index - 1] for index in set(clip.classes[round(float(answer) * FPS)].tolist()) - {0}
            }


@pytest.mark.parametrize(
    ("kind", "axis", "names"),
    [
        ("flash_place", 0, ("left", "middle", "right")),
        ("flash_height", 1, ("top", "middle", "bottom")),
        ("place", 0, ("left", "middle", "right")),
        ("height", 1, ("top", "middle", "bottom")),
        ("place_at", 0, ("left", "middle", "right")),
        ("height_at", 1, ("top", "middle", "bottom")),
    ],
)
def test_places_are_where_pixels_are(rendered, kind, axis, names):
    told = Counter()
    for clip in rendered:
        for text, answer in asked(clip, kind):
            words = words_of(text)
            name = next(name for name in TABLE if all(word in words for word in name.split()))
            shown = next(thing for thing in clip.truth.things if thing.name == name)
            times = [round(float(word) * FPS) for word in words if word[0].isdigit()]
            frame = times[0] if times else int(np.argmax(shown.area))
            pixels = (clip.frames[frame] == COLOURS[name.split()[0]]).all(axis=-1)
            # Another thing may have the colour: only pixels about the centre that the truth tells count.
            near = np.hypot(*(np.indices(pixels.shape) - np.array([[[shown.y[frame]]], [[shown.x[frame]]]]) * 96)) < 12
            centre = np.nonzero(pixels & near)[1 - axis].mean() / 96
            assert names.index(answer) == int(centre * 3)
            told[answer] += 1
    assert len(told) == 3


def test_answers_are_balanced_and_hardly_told_by_text_or_one_frame():
    rng = np.random.default_rng(0)
    chosen = {}
    for split, start, count in (("train", 10_000, 700), ("test", 20_000, 300)):
        specs = [(start + number, SCENARIOS[number % 3]) for number in range(count)]
        truths = [clip.truth for clip in sprites.render_clips(RECIPE, specs)]
        pool = [item for number, truth in enumerate(truths) for item in sprites.ask(RECIPE, number, truth, rng)]
        chosen[split] = select(pool, RECIPE.questions, rng, sprites.BALANCED_BY_FRAME)
        assert max(Counter(item.clip for item in chosen[split]).values()) <= RECIPE.questions
    for kind in ("mover", "shape", "count", "vanish"):  # kinds of one text
        numbers = Counter(item.candidate.answer for item in chosen["train"] if item.candidate.kind == kind)
        assert len(set(numbers.values())) == 1
    leaks = {leak.kind: leak for leak in measure_leaks(chosen["train"], chosen["test"])}
    assert leaks.keys() == {"mover", "shape", "direction", "count", "flash_place", "flash_at", "vanish", "first"}
    assert [kind for kind, leak in leaks.items() if leak.one_frame_suffices] == ["count"]
    for kind, leak in leaks.items():
        assert leak.blind <= leak.chance + 0.05
        glimpses = (leak.first_frame, leak.middle_frame, leak.last_frame)
        if kind in ("direction", "flash_at", "first"):
            assert max(glimpses) <= leak.chance + 0.05
        elif kind != "count":  # one of the few things that are there
            assert max(glimpses) <= leak.chance + 0.2


def test_the_held_out_scenario_has_another_ground_and_another_motion():
    (held,) = sprites.HELD_OUT
    assert held not in sprites.SCENARIOS
    bends = {}
    for scenario in SCENARIOS:
        steps, asides = [], []
        for clip in sprites.render_clips(RECIPE, [(seed, scenario) for seed in range(40)]):
            thing = next(thing for thing in objects(clip) if thing.moves)
            track = np.array([thing.x, thing.y])[:, np.array(thing.area) > 0.95 * max(thing.area)] * 96
            way = track[:, -1] - track[:, 0]
            main = int(np.abs(way).argmax())
            pace = np.abs(np.diff(track[main]))
            steps.append(pace.max() - pace.min())
            asides.append(np.ptp(track[1 - main]))
        bends[scenario] = (np.mean(asides), np.mean(steps))
    assert all(bends[scenario][0] < 1 and bends[scenario][1] < 1.5 for scenario in sprites.SCENARIOS)
    assert bends[held][0] > 6
    assert bends[held][1] > 2


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "sprites"
    generate(RECIPE, folder, workers=1, clips=150)
    return folder


def test_a_dataset_uses_the_words_it_names_and_no_choices(data):
    info = open_info(data)
    assert info.words == sprites.words(RECIPE) == tuple(sorted(set(info.words)))
    assert {f"{frame / FPS:.1f}" for frame in range(FRAMES)} < set(info.words)
    assert all(word in info.words for name in info.classes[1:] for word in name.split())
    for split in info.splits:
        for question in open_questions(data, split):
            assert set(words_of(question.prompt) + words_of(question.target)) <= set(info.words)
            assert question.choices == ()
            assert question.question.endswith("?")
            assert len(words_of(question.answer)) == 1
    assert info.classes[0] == "background"


def test_training_clips_have_some_fourteen_questions_and_lessons_are_never_scored(data):
    kinds, numbers = {}, {}
    for split in open_info(data).splits:
        questions = open_questions(data, split)
        kinds[split] = {question.kind for question in questions}
        numbers[split] = Counter(question.clip for question in questions)
    lessons = {"flash_when", "flash_height", "first_colour", "last_colour", "vanish_shape"}
    lessons |= {"place", "height", "place_at", "height_at", "stays"}
    assert lessons < kinds["train"]
    assert not lessons & (kinds["validation"] | kinds["test"] | kinds["held_out"])
    assert 12 <= np.mean(list(numbers["train"].values())) <= 15


@pytest.mark.parametrize("changes", [{"classes": 9}, {"width": 168, "height": 120, "frames": 12}, {"frames": 33}])
def test_other_sizes_are_rendered_too(changes):
    recipe = replace(RECIPE, **changes)
    for clip in sprites.render_clips(recipe, [(seed, SCENARIOS[seed % 4]) for seed in range(8)]):
        assert clip.frames.shape == (recipe.frames, recipe.height, recipe.width, 3)
        assert set(clip.classes.flat) <= set(range(len(sprites.classes(recipe)) + 1))
        assert sum(thing.flash for thing in clip.truth.things) == 2
