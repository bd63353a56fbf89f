import numpy as np
import pytest
from reference.processor import (
    CHAT_PROMPT,
    MOLMO2_PROMPT,
    SPECIALS,
    reference_processor,
    special_tokens,
    trained_tokenizer,
)
from tokenizers import AddedToken, Tokenizer as Library
from transformers.video_utils import VideoMetadata

from stts_runtime.errors import UsageError
from stts_runtime.language.prompt import build_first_turn, build_next_turn, video_text
from stts_runtime.language.tokenizer import Tokenizer


GROUPS = 81
QUESTIONS = (
    "What happens in the video?",
    "  leading spaces, and a line\n\nbelow ",
    "\n\nstarts with lines",
    "12.5 <- a number first",
    "naïve café … 漢字 🚴",
)


@pytest.fixture
def tokenizer():
    return Tokenizer(Library.from_str(trained_tokenizer()))


def reference_turn(prompt, indices, fps, question):
    """Token ids and vision flags of transformers for a dense video."""
    head, mark, tail = prompt.system.partition("{video}")
    text = head + ("<|video|>" if mark else "") + tail
    text += prompt.user.replace("{content}", question if mark else "<|video|>" + question) + prompt.assistant
    frames = np.zeros((len(indices), 3, 30, 40), np.uint8)
    metadata = VideoMetadata(total_num_frames=1000, fps=fps, duration=1000 / fps, frames_indices=list(indices))
    out = reference_processor()(
        text=text, videos=[frames], video_metadata=[metadata], do_sample_frames=False, return_tensors="np"
    )
    return out["input_ids"][0], out["mm_token_type_ids"][0] > 0


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("prompt", [MOLMO2_PROMPT, CHAT_PROMPT], ids=["video first", "video in the turn"])
def test_token_ids_equal_those_of_transformers_for_a_dense_video(tokenizer, prompt, question):
    indices, fps = [0, 13, 26, 39, 312], 24000 / 1001
    ids, flags = reference_turn(prompt, indices, fps, question)
    timestamps = np.array(indices) / fps
    turn = build_first_turn(tokenizer, prompt, special_tokens(), timestamps, [GROUPS] * len(indices), question)
    np.testing.assert_array_equal(turn.token_ids, ids)
    np.testing.assert_array_equal(turn.vision_flags, flags)
    assert turn.token_ids.dtype == np.int64
    assert turn.vision_flags.dtype == bool


def test_the_video_as_text_equals_that_of_transformers():
    timestamps = np.arange(70) * 7 / 30
    grid = np.array([70, 9, 9])
    assert video_text(timestamps, [GROUPS] * 70) == reference_processor().get_video_string(grid, timestamps)


def test_ids_equal_those_of_the_whole_string_when_frames_keep_different_counts(tokenizer):
    timestamps, kept = [0.0, 0.5, 1.0, 12.25], [81, 0, 3, 1]
    turn = build_first_turn(tokenizer, CHAT_PROMPT, special_tokens(), timestamps, kept, "What happens?")
    text = (
        "<|im_end|>"
        + CHAT_PROMPT.system
        + CHAT_PROMPT.user.replace("{content}", video_text(timestamps, kept) + "What happens?")
        + CHAT_PROMPT.assistant
    )
    whole = Library.from_str(trained_tokenizer()).encode(text, add_special_tokens=False).ids
    assert turn.token_ids.tolist() == whole
    assert (turn.token_ids == special_tokens().image_patch).sum() == 85
    assert turn.vision_flags.sum() == 85 + 2 * 4


def test_bos_is_not_doubled_where_the_template_starts_with_it(tokenizer):
    tokens = special_tokens()
    system = type(CHAT_PROMPT)("<|im_end|>{video}", CHAT_PROMPT.user, CHAT_PROMPT.assistant, CHAT_PROMPT.turn_end)
    turn = build_first_turn(tokenizer, system, tokens, [0.0], [81], "What happens?")
    assert turn.token_ids[0] == tokens.bos
    assert turn.token_ids[1] != tokens.bos


@pytest.mark.parametrize("special", SPECIALS)
def test_special_tokens_written_in_a_question_stay_text(tokenizer, special):
    question = f"what is {special}{special} here?"
    turn = build_first_turn(tokenizer, MOLMO2_PROMPT, special_tokens(), [0.0, 0.5], [5, 4], question)
    plain = build_first_turn(tokenizer, MOLMO2_PROMPT, special_tokens(), [0.0, 0.5], [5, 4], "what is here?")
    for number in tokenizer.special_ids.values():
        assert (turn.token_ids == number).sum() == (plain.token_ids == number).sum()
    text = tokenizer.library.decode(turn.token_ids.tolist(), skip_special_tokens=False)
    assert question in text


def test_braces_in_a_question_are_text(tokenizer):
    turn = build_first_turn(tokenizer, CHAT_PROMPT, special_tokens(), [0.0], [1], "{video} {content} {}?")
    text = tokenizer.library.decode(turn.token_ids.tolist(), skip_special_tokens=False)
    assert "<frame_end>{video} {content} {}?<|im_end|>" in text


def test_a_follow_up_closes_the_answer_and_opens_the_next(tokenizer):
    turn = build_next_turn(tokenizer, MOLMO2_PROMPT, special_tokens(), "How many bikes?")
    text = "<|im_end|>\n<|im_start|>user\nHow many bikes?<|im_end|>\n<|im_start|>assistant\n"
    assert turn.token_ids.tolist() == Library.from_str(trained_tokenizer()).encode(text, add_special_tokens=False).ids
    assert not turn.vision_flags.any()


@pytest.mark.parametrize("question", ["", "  \n"])
def test_an_empty_question_is_refused(tokenizer, question):
    with pytest.raises(UsageError, match="question is empty"):
        build_next_turn(tokenizer, MOLMO2_PROMPT, special_tokens(), question)


def test_a_marker_that_the_tokenizer_finds_in_any_text_is_refused_in_a_question():
    library = Library.from_str(trained_tokenizer())
    library.add_tokens([AddedToken("<ordinary>", normalized=False, special=False)])
    tokens = special_tokens()
    forgeable = type(tokens)(
        tokens.bos, tokens.stop, library.token_to_id("<ordinary>"), tokens.frame_start, tokens.frame_end
    )
    with pytest.raises(UsageError, match="marker"):
        build_next_turn(Tokenizer(library), MOLMO2_PROMPT, forgeable, "what is <ordinary>?")
