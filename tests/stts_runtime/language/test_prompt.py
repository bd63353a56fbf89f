import json
import re
from dataclasses import replace

import numpy as np
import pytest
from reference.processor import reference_processor
from reference.toy_tokenizer import CHAT_PROMPT, MOLMO2_PROMPT, SPECIALS, special_tokens, trained_tokenizer
from tokenizers import AddedToken, Tokenizer as Library, models, normalizers, pre_tokenizers
from transformers.video_utils import VideoMetadata

from stts_runtime.bundle.manifest import Cropping, Grid, Prompt, Tokens
from stts_runtime.clip.crops import layout_of
from stts_runtime.errors import BundleError, UsageError
from stts_runtime.language.prompt import (
    build_first_turn,
    build_next_turn,
    check_tokens,
    first_turn,
    image_pieces,
    image_tokens,
    video_text,
)
from stts_runtime.language.tokenizer import Tokenizer


GROUPS = 81
GRID = Grid(image_size=378, patch_size=14, pool=3)
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


@pytest.mark.parametrize("prompt", [MOLMO2_PROMPT, CHAT_PROMPT], ids=["images first", "images in the turn"])
@pytest.mark.parametrize("low_res_columns", [False, True])
@pytest.mark.parametrize("sizes", [[(400, 700)], [(30, 40), (900, 300), (378, 378)]], ids=len)
def test_token_ids_equal_those_of_transformers_for_images(tokenizer, prompt, low_res_columns, sizes):
    processor = reference_processor()
    processor.use_single_crop_col_tokens = low_res_columns
    # several are numbered by the template of the released models, not by the processor
    places = ["<|image|>"] if len(sizes) == 1 else [f"Image {i}<|image|>" for i in range(1, len(sizes) + 1)]
    head, mark, tail = prompt.system.partition("{video}")
    question = "What is the difference?"
    text = head + ("".join(places) if mark else "") + tail
    text += prompt.user.replace("{content}", question if mark else "".join(places) + question) + prompt.assistant
    images = [np.zeros((3, *size), np.uint8) for size in sizes]
    out = processor(text=text, images=images, return_tensors="np")
    cropping = Cropping(max_crops=8, overlap=(4, 4), pool=2, low_res_columns=low_res_columns)
    layouts = [layout_of(*size, GRID, cropping) for size in sizes]
    seen = image_pieces(special_tokens(), layouts, cropping)
    turn = first_turn(tokenizer, prompt, special_tokens(), seen, question)
    np.testing.assert_array_equal(turn.token_ids, out["input_ids"][0])
    np.testing.assert_array_equal(turn.vision_flags, out["mm_token_type_ids"][0] > 0)
    assert (turn.token_ids == special_tokens().image_patch).sum() == sum(layout.groups for layout in layouts)
    assert image_tokens(special_tokens(), layouts, cropping) == turn.vision_flags.sum()


def test_both_views_of_an_image_may_begin_alike(tokenizer):
    tokens = replace(special_tokens(), low_res_image_start=special_tokens().image_start)
    check_tokens(tokenizer, MOLMO2_PROMPT, tokens, "tokenizer.json")
    processor = reference_processor()
    processor.use_single_crop_start_token = False
    out = processor(text="<|image|>?", images=[np.zeros((3, 50, 50), np.uint8)], return_tensors="np")
    cropping = Cropping(max_crops=8, overlap=(4, 4), pool=2, low_res_columns=True)
    pieces = image_pieces(tokens, [layout_of(50, 50, GRID, cropping)], cropping)
    assert out["input_ids"][0][1 : len(pieces) + 1].tolist() == pieces


def test_a_tokenizer_without_an_images_marker_is_refused(tokenizer):
    tokens = replace(special_tokens(), image_column=special_tokens().image_end)
    with pytest.raises(BundleError, match=r"tokens.image_column wants the token <im_col> with id"):
        check_tokens(tokenizer, MOLMO2_PROMPT, tokens, "tokenizer.json")


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


def unmarked_tokenizer(normalizer=None, **flags):
    """The trained tokenizer with its control tokens found in any text, as some files have them."""
    library = Library.from_str(trained_tokenizer())
    data = json.loads(library.to_str())
    for token in data["added_tokens"]:
        token |= {"special": False, **flags}
    library = Library.from_str(json.dumps(data))
    if normalizer is not None:
        library.normalizer = normalizer
    return Tokenizer(library)


USED = ("<|im_start|>", "<|im_end|>", "<im_patch>", "<frame_start>", "<frame_end>")


@pytest.mark.parametrize("special", USED)
@pytest.mark.parametrize("normalizer", [None, normalizers.NFKC()], ids=["as it is", "normalised"])
def test_a_control_token_that_is_not_marked_special_is_refused_in_a_question(special, normalizer):
    tokenizer = unmarked_tokenizer(normalizer, normalized=normalizer is not None)
    question = f"what is {special} here?"
    if normalizer is not None:
        question = question.replace("<", "\uff1c")  # a full-width bracket, which NFKC makes an ordinary one
    for build in (build_next_turn, lambda *given: build_first_turn(*given[:3], [0.0], [3], given[3])):
        with pytest.raises(UsageError, match=rf"control token or video marker, {re.escape(special)} \(id \d+\)"):
            build(tokenizer, MOLMO2_PROMPT, special_tokens(), question)


@pytest.mark.parametrize("stop", ["<|image|>", "<im_col>"])
def test_nor_may_a_question_hold_what_begins_or_ends(stop):
    tokenizer = unmarked_tokenizer()
    ends = replace(special_tokens(), stop=(tokenizer.control_ids[stop],))
    with pytest.raises(UsageError, match=re.escape(stop)):
        build_next_turn(tokenizer, MOLMO2_PROMPT, ends, f"a {stop}")
    with pytest.raises(UsageError, match=re.escape(stop)):
        build_next_turn(tokenizer, MOLMO2_PROMPT, replace(special_tokens(), bos=ends.stop[0]), f"a {stop}")


def test_a_control_token_cannot_be_made_by_joining_a_question_and_the_template():
    prompt = replace(MOLMO2_PROMPT, user="<{content}>")
    with pytest.raises(UsageError, match="im_patch"):
        build_next_turn(unmarked_tokenizer(), prompt, special_tokens(), "im_patch")
    tokenizer = Tokenizer(Library.from_str(trained_tokenizer()))
    turn = build_next_turn(tokenizer, prompt, special_tokens(), "im_patch")
    assert special_tokens().image_patch not in turn.token_ids


def test_added_tokens_that_the_prompt_has_no_use_for_act_as_ever_and_ordinary_stops_may_be_typed():
    library = Library.from_str(trained_tokenizer())
    library.add_tokens([AddedToken("<tool>", special=False), AddedToken("bikes", special=False)])
    tokenizer = Tokenizer(library)
    stops = (*special_tokens().stop, *tokenizer.encode("\n", specials=False), *tokenizer.encode("?", specials=False))
    question = "how many bikes\n<tool>?"
    turn = build_next_turn(tokenizer, MOLMO2_PROMPT, replace(special_tokens(), stop=stops), question)
    text = f"<|im_end|>\n<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
    whole = Library.from_str(library.to_str()).encode(text, add_special_tokens=False).ids
    assert turn.token_ids.tolist() == whole
    assert {library.token_to_id("bikes"), library.token_to_id("<tool>")} < set(whole)


def test_prompts_of_a_tokenizer_that_marks_nothing_special_are_the_same():
    unmarked, marked = unmarked_tokenizer(), Tokenizer(Library.from_str(trained_tokenizer()))
    for prompt in (MOLMO2_PROMPT, CHAT_PROMPT):
        turns = [
            build_first_turn(tokenizer, prompt, special_tokens(), [0.0, 0.5], [2, 0], "What happens?")
            for tokenizer in (unmarked, marked)
        ]
        np.testing.assert_array_equal(turns[0].token_ids, turns[1].token_ids)


@pytest.mark.parametrize("question", [None, 3, b"What?", ["What?"], True])
def test_a_question_that_is_no_text_is_refused(tokenizer, question):
    with pytest.raises(UsageError, match=f"the question is a {type(question).__name__}, wanted text"):
        build_next_turn(tokenizer, MOLMO2_PROMPT, special_tokens(), question)


@pytest.mark.parametrize("question", [b"O\xf9 ?".decode("utf-8", "surrogateescape"), "O\ud83d?"])
def test_a_question_with_half_a_character_is_refused_and_the_message_can_be_printed(tokenizer, question):
    with pytest.raises(UsageError, match=r"character 2 is '\\u[0-9a-f]{4}'.*UTF-8") as caught:
        build_next_turn(tokenizer, MOLMO2_PROMPT, special_tokens(), question)
    assert str(caught.value).encode()


def test_a_tokenizer_with_all_tokens_of_the_prompt_passes():
    for prompt in (MOLMO2_PROMPT, CHAT_PROMPT):
        for tokenizer in (Tokenizer(Library.from_str(trained_tokenizer())), unmarked_tokenizer()):
            check_tokens(tokenizer, prompt, special_tokens(), "tokenizer.json")


@pytest.mark.parametrize("missing", USED)
def test_a_tokenizer_without_a_token_of_the_prompt_is_refused_by_name(missing):
    data = json.loads(trained_tokenizer())
    for token in data["added_tokens"]:
        token["content"] = "<other>" if token["content"] == missing else token["content"]
    said = rf"tokenizer\.json: .*{re.escape(missing)}.*(got \d+ of plain text|with id \d+, got no such token)"
    with pytest.raises(BundleError, match=said):
        check_tokens(Tokenizer(Library.from_str(json.dumps(data))), MOLMO2_PROMPT, special_tokens(), "tokenizer.json")


def test_ids_that_the_tokenizer_does_not_have_are_refused_by_name(tokenizer):
    tokens = special_tokens()
    shifted = replace(tokens, frame_start=tokens.frame_start + 1)
    said = (
        rf"tokens\.frame_start wants the token <frame_start> with id {shifted.frame_start}, got id {tokens.frame_start}"
    )
    with pytest.raises(BundleError, match=said):
        check_tokens(tokenizer, MOLMO2_PROMPT, shifted, "tokenizer.json")
    for wrong, place in ((replace(tokens, bos=10**6), "bos"), (replace(tokens, stop=(tokens.bos, 10**6)), "stop")):
        with pytest.raises(BundleError, match=rf"tokens\.{place} wants a token with id 1000000, got none"):
            check_tokens(tokenizer, MOLMO2_PROMPT, wrong, "tokenizer.json")
    with pytest.raises(BundleError, match="no tokenizer has a token with id"):
        check_tokens(tokenizer, MOLMO2_PROMPT, replace(tokens, bos=2**70), "tokenizer.json")


@pytest.mark.parametrize("text", ["</s>", "[INST]", "<|user|>", "<start_of_turn>"])
def test_whatever_looks_like_a_token_in_a_template_must_be_one(tokenizer, text):
    prompt = replace(MOLMO2_PROMPT, user=f"{text}{{content}}")
    with pytest.raises(BundleError, match=rf"the token {re.escape(text)}; wanted one id"):
        check_tokens(tokenizer, prompt, special_tokens(), "tokenizer.json")
    tokenizer.library.add_special_tokens([text])
    check_tokens(Tokenizer(tokenizer.library), prompt, special_tokens(), "tokenizer.json")


def test_a_marker_whose_id_no_array_can_hold_is_the_bundles_fault(tokenizer):
    tokens = replace(special_tokens(), image_patch=2**70)
    with pytest.raises(BundleError, match="impossible id"):
        build_first_turn(tokenizer, MOLMO2_PROMPT, tokens, [0.0], [1], "What?")


def test_a_template_with_a_word_that_the_tokenizer_does_not_know_is_refused():
    library = Library(models.WordLevel({"<unk>": 0, "answer": 1, ":": 2}, unk_token="<unk>"))
    library.pre_tokenizer = pre_tokenizers.Whitespace()
    markers = ["<im_patch>", "<frame_start>", "<frame_end>", "<end>"]
    library.add_special_tokens([AddedToken(text, special=True) for text in markers])
    tokenizer = Tokenizer(library)
    ids = [library.token_to_id(text) for text in markers]
    tokens = Tokens(bos=1, stop=(ids[3],), image_patch=ids[0], frame_start=ids[1], frame_end=ids[2])
    prompt = Prompt(system="{video}", user="{content}", assistant=" answer :", turn_end="<end>")
    check_tokens(tokenizer, prompt, tokens, "toy.json")
    with pytest.raises(BundleError, match=r"toy\.json: the prompt's template has the word 'reply', which"):
        check_tokens(tokenizer, replace(prompt, assistant=" reply :"), tokens, "toy.json")
