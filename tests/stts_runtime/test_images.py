"""Questions about images to toy bundles: what counts as one, what is said of them, and everything that is refused."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from reference.molmo2_sizes import CROPPING, GRID
from reference.toy_bundle import KINDS, toy_config, toy_frames, toy_model

from stts_export.parts.vision_image import vision_image_part
from stts_export.verify.torch_part import run_part
from stts_runtime import ImageError, Images, LimitError, Session, UsageError, load
from stts_runtime.bundle.open import Bundle, open_bundle
from stts_runtime.clip.crops import layout_of
from stts_runtime.clip.frames import patches_from_frames
from stts_runtime.language.prompt import first_turn, image_pieces


QUESTION, FOLLOW_UP = "What is in the image?", "And where?"
WIDE, TALL = ((126, 260), (300, 126))


def picture(size, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


@pytest.fixture(params=KINDS, scope="module")
def session(request, toy_bundle):
    with load(toy_bundle(request.param)) as session:
        yield session


@pytest.fixture(scope="module")
def ffd(toy_bundle):
    with load(toy_bundle("ffd")) as session:
        yield session


def changed(path, **changes):
    """A session over the bundle at `path` whose manifest says something else."""
    bundle = open_bundle(path)
    return Session(Bundle(bundle.path, replace(bundle.manifest, **changes)))


def test_a_question_about_an_image_is_answered_whatever_the_bundle_does_with_videos(session):
    image = picture(WIDE)
    answer = session.ask(image, QUESTION, max_tokens=6)
    assert answer
    assert "".join(session.ask(image, QUESTION, stream=True, max_tokens=6)) == answer
    conversation = session.look(image)
    assert conversation.ask(QUESTION, max_tokens=6) == answer
    assert conversation.ask(FOLLOW_UP, max_tokens=6)
    assert conversation.prune_fraction == 0
    assert (
        conversation.notes
        == ("the answer was cut at 6 tokens: allow more with --max-tokens, or max_tokens in Python",) * 2
    )


def test_features_are_those_of_the_torch_model_and_none_is_pruned(session, toy_bundle):
    kind = open_bundle(session._bundle.path).path.stem
    config = toy_config(*KINDS[kind][:2])
    part = vision_image_part(toy_model(config), config, CROPPING)
    conversation = session.look([picture(WIDE), picture(TALL, 1)])
    wanted = []
    for cut in conversation.clip.images:
        inputs = {"patches": patches_from_frames(cut.crops, GRID), "readout": cut.readout}
        wanted.append(run_part(part, inputs)["features"])
    features = np.concatenate(wanted)
    np.testing.assert_allclose(conversation.vision.features, features, rtol=0, atol=1e-4 * np.abs(features).max())
    assert conversation.vision.keep.all()
    assert conversation.vision.keep.size == len(conversation.vision.features)
    counts = conversation.timings.tokens
    layouts = [layout_of(*size, GRID, CROPPING) for size in (WIDE, TALL)]
    assert counts["images"] == 2
    assert counts["crops"] == sum(layout.crops for layout in layouts)
    assert counts["groups"] == counts["kept_groups"] == sum(layout.groups for layout in layouts)
    assert {"read_images", "preprocessing", "vision_image"} <= set(conversation.timings.milliseconds)


def test_the_prompt_is_the_images_then_the_question(ffd):
    conversation = ffd.look([picture(WIDE), picture(TALL)])
    conversation.ask(QUESTION, max_tokens=1)
    manifest = ffd.manifest
    seen = image_pieces(manifest.tokens, conversation.clip.layouts, CROPPING)
    turn = first_turn(ffd.tokenizer, manifest.prompt, manifest.tokens, seen, QUESTION)
    assert conversation.timings.tokens["prompt_tokens"] == len(turn.token_ids)
    assert seen[0] == "Image 1"


def test_what_counts_as_images(ffd, tmp_path):
    image = picture((126, 126))
    file = tmp_path / "picture"
    Image.fromarray(image).save(file, "PNG")
    answer = ffd.ask(image, QUESTION, max_tokens=6)
    for given in ([image], (image,), Image.fromarray(image), file, str(file), [file], ffd.read_images(image)):
        conversation = ffd.look(given, prune=0)  # nothing is pruned anyway
        assert isinstance(conversation.clip, Images)
        assert conversation.ask(QUESTION, max_tokens=6) == answer
    assert conversation.clip.source_sizes == ((126, 126),)
    assert conversation.clip.nbytes == 2 * 126 * 126 * 3


def test_what_counts_as_a_video_all_the_same(ffd, tmp_path):
    image = picture((126, 126))
    file, gif = tmp_path / "picture.png", tmp_path / "moving.gif"
    Image.fromarray(image).save(file)
    Image.fromarray(image).save(gif, save_all=True, append_images=[Image.fromarray(image[::-1])], duration=500)
    assert ffd.look(image[None]).timings.tokens["frames"] == 1
    assert ffd.look(file, kind="video").timings.tokens["frames"] == 1
    assert ffd.look(file, frames=1).timings.tokens["frames"] == 1
    assert ffd.look(gif, frames=2).timings.tokens["frames"] == 2
    assert "frames" in ffd.look(gif).timings.tokens
    assert ffd.look(gif, kind="images").timings.tokens["images"] == 1
    with pytest.raises(UsageError, match=r"kind is 'photo', wanted one of video, images"):
        ffd.look(file, kind="photo")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prune": 0.5}, "prune is for videos: images are never pruned. Leave it out, or say 0"),
        ({"frames": 4}, "frames is for videos: images have no frames"),
        ({"fps": 2.0}, "fps is for videos"),
        ({"video_stream": 1}, "video_stream is for videos"),
    ],
)
def test_settings_of_videos_are_refused(ffd, settings, message):
    with pytest.raises(UsageError, match=message):
        ffd.ask(picture(WIDE), QUESTION, **settings)


def test_a_file_of_a_picture_is_not_pruned_either(ffd, tmp_path):
    Image.fromarray(picture((126, 126))).save(tmp_path / "picture.png")
    with pytest.raises(UsageError, match="images are never pruned"):
        ffd.ask(tmp_path / "picture.png", QUESTION, prune=0.3)


def test_an_image_and_a_video_in_one_question_are_refused(ffd, tmp_path):
    video = tmp_path / "clip.mp4"
    video.write_bytes(b"\0\0\0\x18ftypmp42" + bytes(100))
    with pytest.raises(ImageError, match=r"clip.mp4 is no image of a known format .* a video is given alone"):
        ffd.ask([picture(WIDE), video], QUESTION)
    with pytest.raises(UsageError, match=r"image 2 is uint8 \[3, 126, 126, 3\]"):
        ffd.ask([picture(WIDE), toy_frames(3)], QUESTION)


def test_no_image_and_what_is_none_are_refused(ffd):
    with pytest.raises(UsageError, match="there is no image in the list"):
        ffd.ask([], QUESTION)
    with pytest.raises(UsageError, match="image 2 is NoneType"):
        ffd.ask([picture(WIDE), None], QUESTION)


def test_more_images_than_a_conversation_has_room_for_are_refused_before_an_engine_runs(ffd):
    # a whole one has 25 groups and two markers, a crop of a window as many and five columns
    many, said = (
        [picture((126, 126))] * 9,
        r"9 images have 531 tokens and the question \d+, the bundle was built for 512",
    )
    with pytest.raises(LimitError, match=said):
        ffd.ask(many, QUESTION)
    assert ffd.look(many[:7]).ask(QUESTION, max_tokens=2)
    short = changed(ffd._bundle.path, limits=replace(ffd.manifest.limits, max_tokens=40))
    with short, pytest.raises(LimitError, match="the image has 59 tokens, the bundle was built for 40 in all"):
        short.read_images(many[0])


def test_a_bundle_that_knows_videos_only_says_so_and_looks_at_pictures_as_before(toy_bundle, tmp_path):
    image = picture((126, 126))
    file = tmp_path / "picture.png"
    Image.fromarray(image).save(file)
    said = r"knows videos only, no images: .* one array \[frames, height, width, 3\]"
    with changed(toy_bundle("ffd"), image=None) as session:
        for given in (image, [image], Image.fromarray(image)):
            with pytest.raises(UsageError, match=said):
                session.ask(given, QUESTION)
        with pytest.raises(UsageError, match="knows videos only"):
            session.look(file, kind="images")
        assert session.look(file).timings.tokens["frames"] == 1


def test_images_of_any_size_fill_the_dims_of_the_graph(ffd):
    spec = ffd.manifest.graphs["vision_image"].spec
    for size in ((1, 1), (126, 126), (2000, 100), (100, 2000), (1000, 1000)):
        layout = ffd.look(picture(size)).clip.layouts[0]
        assert spec.dim("T").minimum <= layout.crops <= spec.dim("T").maximum
        assert spec.dim("K").minimum <= layout.groups <= spec.dim("K").maximum
    assert spec.dim("T").maximum == CROPPING.max_crops + 1
