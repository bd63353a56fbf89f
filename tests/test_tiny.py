"""The first gate, under a minute: a model of two decoder layers, from checkpoint to bundle, from frames to text."""

from reference.toy_bundle import toy_frames

from stts_runtime import load


def test_a_tiny_model_is_built_and_answers_two_questions_about_a_clip(toy_bundle):
    frames = toy_frames(6)
    with load(toy_bundle("ffd"), check=True) as model:
        conversation = model.look(frames)
        first = conversation.ask("What happens in the video?", max_tokens=8)
        second = conversation.ask("How many bikes pass by?", max_tokens=8)
        assert first
        assert second
        assert conversation.vision.keep.sum() == 27  # half of 6 frames of 9 groups
        assert model.ask(frames, "What happens in the video?", max_tokens=8) == first
        assert model.ask(frames[::-1].copy(), "What happens in the video?", max_tokens=8) != first
