from dataclasses import replace

import numpy as np
import pytest
from reference.toy_manifest import TOY_MANIFEST

from stts_runtime.bench.trial import check_bench_limits
from stts_runtime.errors import LimitError
from stts_runtime.language.prompt import QUESTION_TOKENS, made_up_turn, timestamp_tokens, video_tokens


TOKENS, PROMPT = TOY_MANIFEST.tokens, TOY_MANIFEST.prompt


def test_a_made_up_prompt_has_markers_around_each_frames_placeholders():
    turn = made_up_turn(PROMPT, TOKENS, 16, [3, 0, 2])
    frames = [part.tolist() for part in np.split(turn.token_ids, np.flatnonzero(turn.token_ids == TOKENS.frame_start))]
    inside = [part[1 : part.index(TOKENS.frame_end)] for part in frames[1:]]
    assert [part.count(TOKENS.image_patch) for part in inside] == [3, 0, 2]
    assert all(set(part) <= {TOKENS.image_patch} for part in inside)
    assert len(turn.token_ids) == 1 + 3 * (5 + 2) + 5 + QUESTION_TOKENS
    assert turn.vision_flags.sum() == 5 + 2 * 3
    assert len(turn.token_ids) == 1 + video_tokens(5, 3, timestamp_tokens(PROMPT)) + QUESTION_TOKENS
    assert turn.vision_flags.sum() == video_tokens(5, 3, timestamp=0)


@pytest.mark.parametrize(
    ("timestamp", "between", "tokens"), [("{time}", " ", 5), ("<{time} seconds>", "", 7), ("{time}", "", 4)]
)
def test_a_time_takes_its_digits_and_what_stands_around_it(timestamp, between, tokens):
    assert timestamp_tokens(replace(PROMPT, timestamp=timestamp, between_frames=between)) == tokens


def test_its_text_has_no_token_with_a_meaning():
    turn = made_up_turn(PROMPT, TOKENS, 16, [1])
    assert turn.token_ids[0] == TOKENS.bos
    text = turn.token_ids[1:][~turn.vision_flags[1:]]
    assert not np.isin(text, (TOKENS.bos, *TOKENS.stop, TOKENS.image_patch)).any()
    assert text.max() < 16


def test_dense_and_pruned_prompts_differ_in_placeholders_only():
    dense, pruned = (made_up_turn(PROMPT, TOKENS, 16, kept) for kept in ([4, 4], [4, 1]))
    assert len(dense.token_ids) - len(pruned.token_ids) == 3


def test_more_frames_than_the_bundle_serves_are_refused():
    with pytest.raises(LimitError, match=r"65 frames .* 1 to 64.*--max-frames"):
        check_bench_limits(TOY_MANIFEST, 65, 1)


def test_more_tokens_than_the_bundle_serves_are_refused():
    with pytest.raises(LimitError, match=r"60 frames need 53\d\d tokens.* 4096.*--max-tokens"):
        check_bench_limits(TOY_MANIFEST, 60, 8)
    check_bench_limits(TOY_MANIFEST, 40, 8)
