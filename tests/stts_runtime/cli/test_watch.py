"""`stts-runtime watch` as it is typed."""

import json
import subprocess
import sys
import time
from datetime import datetime

import pytest
from reference.streams import serving, write_stream

from stts_runtime.cli import main


QUESTION = "What happens?"


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    write_stream(path, 20)
    return path


def watched(capsys, *arguments):
    code = main(["watch", *map(str, arguments), "--ask", QUESTION, "--max-tokens", "3"])
    return code, *capsys.readouterr()


def test_a_line_is_the_cameras_seconds_and_the_answer(toy_bundle, clip, capsys):
    code, said, noted = watched(capsys, clip, toy_bundle("ragged"), "--every", "0.5", "--fps", "10")
    assert code == 0
    times = [float(line.split(" s ")[0]) for line in said.splitlines()]
    assert 0.5 <= times[0] < times[-1] == 1.9  # in real time: which frames come through depends on the machine
    assert times == sorted(times)
    assert f"{len(times)} answers, " in noted


def test_json_is_an_object_a_line(toy_bundle, clip, capsys):
    code, said, _ = watched(
        capsys, clip, toy_bundle("ragged"), "--json", "--answers", "1", "--every", "0.5", "--fps", "10"
    )
    assert code == 0
    (answer,) = map(json.loads, said.splitlines())
    assert answer["source"] == str(clip)
    assert 0.5 <= answer["time"] <= 1.9
    assert answer["matches"] is None
    assert datetime.fromisoformat(answer["at"]).utcoffset().total_seconds() == 0
    assert {"prefill", "vision_score"} <= set(answer["milliseconds"])


def test_answers_that_match_are_marked_and_several_sources_named(toy_bundle, clip, capsys, monkeypatch):
    monkeypatch.setattr("stts_runtime.conversation.Conversation.stream", lambda *_: iter(["Yes."]))
    _, said, _ = watched(capsys, clip, clip, toy_bundle("ragged"), "--when", "yes", "--answers", "2", "--every", "0.5")
    lines = said.splitlines()
    assert all(line.endswith("* Yes.") for line in lines)
    assert {line.split("  ")[0] for line in lines} <= {str(clip), f"{clip} (2)"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing.mp4"], "nothing.mp4 does not exist"),
        (["97"], "camera 97: there is no /dev/video97"),
        (["ftp://me:s3cret@host/x"], "ftp://host/x has the scheme 'ftp'"),
        (["clip", "--answers", "0"], "--answers is 0"),
        (["clip", "--mode", "fast"], "wanted settled or exact"),
        (["clip", "--save", "moments"], "say which with when (--when yes)"),
        (["clip", "--webhook", "host/s3cret"], "a webhook is an address"),
        (["clip", "--frames", "99"], "built for at most 8"),
    ],
)
def test_wrong_use_is_one_message_and_exit_code_2(toy_bundle, clip, capsys, arguments, said):
    source, *options = (clip if word == "clip" else word for word in arguments)
    code, _, noted = watched(capsys, source, toy_bundle("ragged"), *options)
    assert code == 2
    assert said in noted
    assert "s3cret" not in noted


@pytest.mark.parametrize(("kind", "said"), [("ffd", "packed ffd"), ("dense", "a bundle with a scorer")])
def test_a_bundle_that_cannot_watch_says_how_to_build_one(toy_bundle, clip, capsys, kind, said):
    code, _, noted = watched(capsys, clip, toy_bundle(kind))
    assert code == 2
    assert said in noted
    assert "--packing ragged" in noted


def test_a_server_that_does_not_answer_is_a_message_without_the_password(toy_bundle, capsys, monkeypatch):
    monkeypatch.setattr("stts_runtime.live.reader.CONNECT_SECONDS", 0.3)
    with serving(None) as port:
        code, _, noted = watched(capsys, f"rtsp://me:s3cret@127.0.0.1:{port}/cam", toy_bundle("ragged"), "--debug")
    assert code == 2
    assert f"rtsp://127.0.0.1:{port}/cam does not answer within 0.3 s" in noted
    assert "s3cret" not in noted  # in the traceback of --debug neither


def test_ctrl_c_ends_it_in_order(toy_bundle, clip):
    code = "import sys; from stts_runtime.cli import main; sys.exit(main(sys.argv[1:]))"
    arguments = ["watch", str(clip), str(toy_bundle("ragged")), "--ask", QUESTION, "--every", "0.2", "--fps", "10"]
    running = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert running.stdout.readline()
    running.send_signal(2)
    start = time.monotonic()
    _, noted = running.communicate(timeout=30)
    assert time.monotonic() - start < 15
    assert running.returncode == 0
    assert "ended" in noted
    assert "frames dropped" in noted
