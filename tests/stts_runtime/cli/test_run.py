"""`stts-runtime run` as it is typed."""

import json

import av
import pytest
from PIL import Image
from reference.toy_bundle import toy_frames

from stts_runtime.cli import main


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=2)
        stream.width = stream.height = 126
        stream.pix_fmt = "yuv420p"
        for frame in toy_frames(2):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def test_json_says_why_each_answer_ended_and_a_cut_one_is_noted(toy_bundle, clip, capsys):
    asked = ["run", str(toy_bundle("ffd")), "--video", str(clip), "--max-tokens", "3", "What?", "And then?"]
    assert main([*asked, "--json"]) == 0
    found = capsys.readouterr()
    said = json.loads(found.out)
    assert [turn["finish_reason"] for turn in said["turns"]] == ["length", "length"]
    assert [turn["tokens"]["answer_tokens"] for turn in said["turns"]] == [3, 3]
    assert sum("was cut at 3 tokens" in note for note in said["notes"]) == 2
    assert found.err.count("note: the answer was cut at 3 tokens: allow more with --max-tokens") == 2


def test_images_are_asked_about_in_turn_and_never_pruned(toy_bundle, tmp_path, capsys):
    files = [tmp_path / "a.png", tmp_path / "b.jpg"]
    for file, colour in zip(files, ("red", "blue"), strict=True):
        Image.new("RGB", (130, 90), colour).save(file)
    shown = ["--image", str(files[0]), "--image", str(files[1])]
    asked = ["run", str(toy_bundle("ffd")), *shown, "--max-tokens", "2", "What?", "And then?"]
    assert main([*asked, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["prune"], said["tokens"]["images"], len(said["turns"])) == (0.0, 2, 2)
    assert main([*asked, "--times"]) == 0
    found = capsys.readouterr()
    assert "\nimages\n  read_images" in found.out
    assert f"looking at {files[0]}, {files[1]} ..." in found.err
    assert main([*asked, "--prune", "0.5"]) == 2
    assert "error: prune is for videos: images are never pruned. Leave it out" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*asked, "--video", "clip.mp4"])
    assert "not allowed with argument" in capsys.readouterr().err


def test_a_question_in_another_encoding_is_one_message_and_exit_code_2(toy_bundle, clip, capsys):
    question = b"O\xf9 ?".decode("utf-8", "surrogateescape")  # how Python hands over what a Latin-1 terminal sent
    assert main(["run", str(toy_bundle("ffd")), "--video", str(clip), "What?", question]) == 2
    said = capsys.readouterr().err
    assert "error: the question is no valid text: its character 2 is" in said
    assert "looking at" not in said
