"""What the openai Python client gets: the answers of the session, by every way that a clip can come."""

import openai
import pytest
from reference.serving import MODEL, AskedClip, message, picture_parts, serving

from stts_runtime.serve.addresses import Allowed


@pytest.fixture(scope="module")
def client(served) -> openai.OpenAI:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0, timeout=60) as found:
        yield found


def said(client: openai.OpenAI, part: dict | AskedClip, question: str, **fields) -> str:
    fields = {"max_tokens": 12, **fields}
    answer = client.chat.completions.create(model=MODEL, messages=[message(part, question)], **fields)
    return answer.choices[0].message.content


def test_every_question_gets_the_answer_that_the_session_gives_and_nearly_all_are_right(served, client, clips):
    found, direct, right = [], [], []
    for clip in clips:
        conversation_clip = served.session.read(clip.path)
        for question, answer in zip(clip.questions, clip.answers, strict=True):
            found.append(said(client, clip, question))
            direct.append(served.session.ask(conversation_clip, question, max_tokens=12))
            right.append(answer)
    assert found == direct
    assert sum(one.strip() == answer for one, answer in zip(found, right, strict=True)) >= 0.9 * len(right)
    assert len(set(found)) > 5  # so that an answer to another's question would be seen


def test_a_stream_says_the_same_and_ends_with_what_it_cost(client, clips):
    clip, question = clips[0], clips[0].questions[0]
    whole = client.chat.completions.create(model=MODEL, messages=[message(clip, question)], max_tokens=12)
    chunks = list(
        client.chat.completions.create(
            model=MODEL,
            messages=[message(clip, question)],
            max_tokens=12,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert "".join(one.choices[0].delta.content or "" for one in chunks[:-1]) == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage.prompt_tokens == whole.usage.prompt_tokens
    assert {one.id for one in chunks} == {chunks[0].id}


def test_usage_counts_vision_tokens_before_and_after_pruning(served, client, clips):
    grid = served.session.manifest.grid
    for prune, kept in ((0.0, 8 * grid.groups), (0.5, 4 * grid.groups)):
        asked = [message(clips[0], clips[0].questions[0])]
        answer = client.chat.completions.create(model=MODEL, messages=asked, extra_body={"prune": prune})
        details = answer.usage.prompt_tokens_details.model_dump()
        assert details["vision_tokens_before_pruning"] == 8 * grid.groups
        assert details["vision_tokens"] == kept
        assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
        assert answer.usage.prompt_tokens > kept
        assert answer.stts["milliseconds"]["prefill"] > 0


def test_a_clip_may_come_as_video_url_input_video_or_upload(client, clips):
    clip, question = clips[1], clips[1].questions[0]
    expected = said(client, clip, question)
    encoded = clip.url.partition(",")[2]
    assert (
        said(client, {"type": "input_video", "input_video": {"data": encoded, "format": "mp4"}}, question) == expected
    )
    assert said(client, {"type": "input_video", "input_video": {"data": clip.url}}, question) == expected
    upload = client.files.create(file=clip.path, purpose="user_data")
    for part in (
        {"type": "file", "file": {"file_id": upload.id}},
        {"type": "input_video", "input_video": {"file_id": upload.id}},
    ):
        assert said(client, part, question) == expected
    assert (upload.bytes, upload.filename) == (clip.path.stat().st_size, clip.path.name)
    assert [one.id for one in client.files.list()] == [upload.id]
    assert client.files.retrieve(upload.id).bytes == upload.bytes
    assert client.files.delete(upload.id).deleted
    with pytest.raises(openai.NotFoundError) as refused:
        said(client, {"type": "file", "file": {"file_id": upload.id}}, question)
    assert refused.value.code == "file_not_found"


def test_frames_as_a_list_of_pictures_are_looked_at_as_they_are(served, client, clips):
    for clip in clips[:2]:
        read = served.session.read(clip.path)
        question = clip.questions[0]
        content = [*picture_parts(read.frames), {"type": "text", "text": question}]
        answer = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": content}])
        assert answer.choices[0].message.content == served.session.ask(read.frames, question)


def test_pictures_with_a_rate_are_sampled_as_a_video_is(served, client, clips):
    frames = served.session.read(clips[0].path, frames=12).frames
    asked = [{"role": "user", "content": [*picture_parts(frames), {"type": "text", "text": clips[0].questions[0]}]}]
    answer = client.chat.completions.create(model=MODEL, messages=asked, extra_body={"fps": 4, "explain": True})
    clip = served.session.read(frames, fps=4)
    assert answer.stts["timestamps"] == pytest.approx(list(clip.timestamps), abs=1e-3)
    assert answer.choices[0].message.content == served.session.ask(clip, clips[0].questions[0])


def test_frames_and_prune_change_what_is_looked_at_and_explain_tells_what_was_kept(served, client, clips):
    asked = [message(clips[0], clips[0].questions[0])]
    extra = {"prune": 0.3, "frames": 6, "explain": "pictures"}
    answer = client.chat.completions.create(model=MODEL, messages=asked, extra_body=extra)
    clip = served.session.read(clips[0].path, frames=6)
    vision = served.session.vision(clip, 0.3)
    assert answer.stts["kept"] == vision.keep.astype(int).tolist()
    assert answer.stts["scores"] == [pytest.approx(list(row), abs=1e-4) for row in vision.scores]
    assert len(answer.stts["pictures"]) == 6
    assert all(picture.startswith("data:image/jpeg;base64,") for picture in answer.stts["pictures"])
    streamed = client.chat.completions.create(model=MODEL, messages=asked, extra_body=extra, stream=True)
    told = [one.stts for one in streamed if hasattr(one, "stts")]
    assert told[0]["kept"] == answer.stts["kept"]
    assert told[0]["pictures"] == answer.stts["pictures"]


def test_max_tokens_temperature_and_seed_do_what_the_session_does_with_them(endless_bundle, clips):
    with (
        serving(endless_bundle) as served,
        openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0) as client,
    ):
        for fields in (
            {"max_tokens": 3},
            {"max_completion_tokens": 5},
            {"max_tokens": 8, "temperature": 1.5, "top_p": 0.9, "seed": 3},
            {"max_tokens": 8, "temperature": 1.5, "seed": 4},
        ):
            answer = client.chat.completions.create(
                model=MODEL, messages=[message(clips[0], clips[0].questions[0])], **fields
            )
            settings = {name.replace("_completion", ""): value for name, value in fields.items()}
            direct = served.session.look(clips[0].path)
            assert answer.choices[0].message.content == direct.ask(clips[0].questions[0], **settings)
            assert answer.choices[0].finish_reason == direct.finish_reason
            assert answer.usage.completion_tokens == direct.timings.tokens["answer_tokens"] <= settings["max_tokens"]


def test_a_stop_text_ends_an_answer_before_it(endless_bundle, clips):
    with (
        serving(endless_bundle) as served,
        openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0) as client,
    ):
        whole = said(client, clips[0], clips[0].questions[0], max_tokens=20)
        stop = whole[7:10]
        stopped = client.chat.completions.create(
            model=MODEL, messages=[message(clips[0], clips[0].questions[0])], max_tokens=20, stop=stop
        )
        assert stopped.choices[0].message.content == whole[: whole.index(stop)]
        assert stopped.choices[0].finish_reason == "stop"


def test_a_file_below_the_folder_that_was_named_can_be_asked_about(nano_bundle, clips, tmp_path):
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "one two.mp4").write_bytes(clips[0].path.read_bytes())
    (tmp_path / "secret.mp4").write_bytes(clips[1].path.read_bytes())
    (tmp_path / "clips" / "link.mp4").symlink_to(tmp_path / "secret.mp4")
    with (
        serving(nano_bundle, allowed=Allowed(tmp_path / "clips")) as served,
        openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0) as client,
    ):
        url = (tmp_path / "clips" / "one two.mp4").as_uri()
        part = {"type": "video_url", "video_url": {"url": url}}
        assert said(client, part, clips[0].questions[0]) == served.session.ask(clips[0].path, clips[0].questions[0])
        outside = [
            f"file://{tmp_path}/secret.mp4",
            f"file://{tmp_path}/clips/link.mp4",
            f"file://{tmp_path}/clips/../secret.mp4",
            f"file://{tmp_path}/clips/%2e%2e/secret.mp4",
            f"file://{tmp_path}/clips/none.mp4",
            f"file://{tmp_path}/clips",
            f"file://example.org{tmp_path}/clips/one%20two.mp4",
            "file:///dev/zero",
        ]
        for url in outside:
            with pytest.raises(openai.BadRequestError) as refused:
                said(client, {"type": "video_url", "video_url": {"url": url}}, "what moves ?")
            assert refused.value.code == "address_refused"
            assert str(tmp_path) not in str(refused.value)


def test_models_are_told(client):
    (model,) = client.models.list()
    assert model.id == MODEL
    assert client.models.retrieve(MODEL).stts["scorer"] == "learned"
    with pytest.raises(openai.NotFoundError) as refused:
        client.models.retrieve("other")
    assert refused.value.code == "model_not_found"
