"""Conversations: kept between requests where that changes nothing, and equal to those that are not."""

import pytest
from reference.serving import MODEL, message, serving

from stts_runtime.serve.chat import Turn
from stts_runtime.serve.memory import asked_tokens, most_tokens


def asked(served, clip, turns, **fields):
    """Return the answer to the last of some questions; earlier ones have their answers."""
    messages = [message(clip, turns[0][0])]
    for place, (question, answer) in enumerate(turns):
        if place > 0:
            messages.append({"role": "user", "content": question})
        if answer is not None:
            messages.append({"role": "assistant", "content": answer})
    answer = served.ask({"model": MODEL, "messages": messages, "max_tokens": 12, **fields})
    assert answer.status_code == 200, answer.text
    return answer.json()


def text_of(answer):
    return answer["choices"][0]["message"]["content"]


def test_a_kept_conversation_says_what_a_new_one_says_and_reads_less(nano_bundle, clips):
    with serving(nano_bundle) as keeping, serving(nano_bundle) as other:
        for clip in clips[:2]:
            first, second, third = clip.questions[:3]
            answer = text_of(asked(keeping, clip, [(first, None)]))
            follow = asked(keeping, clip, [(first, answer), (second, None)])
            anew = asked(other, clip, [(first, answer), (second, None)])
            assert text_of(follow) == text_of(anew)
            assert follow["usage"]["prompt_tokens"] == anew["usage"]["prompt_tokens"]
            assert follow["usage"]["prompt_tokens_details"]["cached_tokens"] > 50
            assert anew["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
            assert follow["stts"]["notes"] == anew["stts"]["notes"]
            assert "vision_score" not in follow["stts"]["milliseconds"]  # this request's times, not the first one's
            turns = [(first, answer), (second, text_of(follow)), (third, None)]
            assert text_of(asked(keeping, clip, turns)) == text_of(asked(other, clip, turns))


def test_a_conversation_goes_on_for_whoever_says_the_same_and_only_once(nano_bundle, clips):
    with serving(nano_bundle) as served:
        clip, (first, second) = clips[0], clips[0].questions[:2]
        answer = text_of(asked(served, clip, [(first, None)]))

        def cached(*turns, **fields):
            found = asked(served, clip, [*turns, (second, None)], **fields)
            return found["usage"]["prompt_tokens_details"]["cached_tokens"]

        video = cached((first, "something else"))  # which everyone who asks about the clip goes on from
        assert video > 50
        assert cached((second, answer)) == video
        assert cached((first, answer), prune=0.25) == 0
        assert cached((first, answer)) > video
        assert cached((first, answer)) == video  # it has gone on since


def test_features_of_a_clip_are_reused_and_only_for_the_same_share(nano_bundle, clips):
    with serving(nano_bundle) as served:
        url, question = clips[0], clips[0].questions[0]
        runs = [asked(served, url, [(question, None)], **fields) for fields in ({}, {}, {"prune": 0.25}, {"frames": 6})]
        assert ["vision_score" in run["stts"]["milliseconds"] for run in runs] == [True, False, True, True]
        assert text_of(runs[0]) == text_of(runs[1])


def test_no_more_is_kept_than_there_is_room_for(nano_bundle, clips):
    with serving(nano_bundle, seen_mib=0, cache_mib=2) as served:
        worker = served.server.worker
        for clip in clips[:3]:
            run = asked(served, clip, [(clip.questions[0], None)])
            assert "vision_score" in run["stts"]["milliseconds"]
            assert 0 < worker._kept.size <= 2 << 20
        assert worker.kept < 3
        assert worker._seen.size == 0


def test_what_can_never_fit_is_refused_at_once(nano_bundle, clips):
    with serving(nano_bundle, cache_mib=1) as served:
        body = {"model": MODEL, "messages": [message(clips[0], clips[0].questions[0])]}
        assert served.ask({**body, "max_tokens": 12}).status_code == 200
        refused = served.ask({**body, "max_tokens": 900})
        assert refused.status_code == 400
        assert refused.json()["error"]["code"] == "context_length_exceeded"
        assert "1 MiB" in refused.json()["error"]["message"]


@pytest.mark.parametrize("turns", [1, 4])
def test_a_conversation_has_no_more_tokens_than_room_was_held_for(served, clips, turns):
    clip = clips[0]
    questions = [clip.questions[place % len(clip.questions)] for place in range(turns)]
    past = [(question, "red") for question in questions[:-1]]
    usage = asked(served, clip, [*past, (questions[-1], None)])["usage"]
    known = [Turn(*one) for one in (*past, (questions[-1], None))]
    more = asked_tokens(served.session, known) + 12
    assert usage["total_tokens"] <= most_tokens(served.session.manifest, 8, 0.5, turns, more) < 1024


def test_what_only_whoever_runs_the_server_should_know_is_in_no_answer(nano_bundle, clips):
    with serving(nano_bundle) as served:
        served.session.notes = ("packed weights are damaged; `stts-runtime build /home/somebody/nano.stts` packs them",)
        answer = asked(served, clips[0], [("What colour moves Zanzibar?", None)])
        assert any("Zanzibar" in note for note in answer["stts"]["notes"])
        assert "/home" not in str(answer)
