"""The command itself: what it refuses to start with, and how it ends."""

import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from shutil import copytree

import httpx
import pytest
from reference.serving import Gate, request, serving, wait_until

from stts_runtime.bundle.open import manifest_bytes, read_manifest
from stts_runtime.cli import main
from stts_runtime.cli.serve import _check_certificate
from stts_runtime.serve.listen import listening


@contextmanager
def command(bundle, *options):
    """Run the command, and give its process and address once it answers."""
    line = [sys.executable, "-m", "stts_runtime.cli", "serve", str(bundle), "--port", "0", *options]
    code = f"import sys; from stts_runtime.cli import main; sys.exit(main({line[3:]!r}))"
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) as process:
        told = ""
        for told in process.stderr:
            if " answers at " in told:
                break
        try:
            yield process, told.split(" answers at ")[1].split("/v1")[0]
        finally:
            process.kill()


def test_the_command_answers_and_ends_when_it_is_told_to(nano_bundle, clips):
    with command(nano_bundle) as (process, url):
        with httpx.Client(base_url=url, timeout=30) as client:
            body = request(clips[0], clips[0].questions[0]) | {"model": nano_bundle.stem}
            answer = client.post("/v1/chat/completions", json=body)
        assert answer.json()["choices"][0]["message"]["content"].strip() == clips[0].answers[0]
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert "ended" in process.stderr.read()
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{url}/health")


def test_running_answers_are_finished_before_the_end_if_there_is_time(endless_bundle, clips):
    gate = Gate()
    with serving(endless_bundle, opener=gate.opener(), stop_seconds=30) as served, ThreadPoolExecutor(1) as pool:
        try:
            found = pool.submit(served.ask, request(clips[0], "What?", max_tokens=5))
            wait_until(lambda: gate.waiting == 1)
            served.stop()
            wait_until(lambda: is_closed(served.port))
        finally:
            gate.open()
        assert found.result().status_code == 200
        assert found.result().json()["usage"]["completion_tokens"] == 5


def test_answers_that_are_not_finished_in_time_are_told_so(endless_bundle, clips):
    gate = Gate()
    with (
        serving(endless_bundle, opener=gate.opener(), stop_seconds=0.5, answering=1) as served,
        ThreadPoolExecutor(3) as pool,
    ):
        try:
            streamed = pool.submit(served.ask, request(clips[0], "What?", stream=True, max_tokens=300))
            wait_until(lambda: gate.waiting == 1)
            gate.let(3)
            wait_until(lambda: gate.runs == 3)
            waits = pool.submit(served.ask, request(clips[0], "Who?"))
            wait_until(lambda: served.server.worker.waiting == 1)
            start = time.monotonic()
            served.stop()
            assert waits.result().status_code == 503
            assert waits.result().json()["error"]["code"] == "server_stopping"
            assert "server_stopping" in streamed.result().text.rstrip().rpartition("\n\n")[2]
            assert time.monotonic() - start < 10
        finally:
            gate.open()


def test_a_clip_that_is_being_read_at_the_end_is_not_waited_for(nano_bundle, clips, monkeypatch):
    monkeypatch.setattr("stts_runtime.serve.decode._COMMAND", ("/bin/sleep", "60"))
    with serving(nano_bundle, stop_seconds=0.2) as served, ThreadPoolExecutor(1) as pool:
        found = pool.submit(served.ask, request(clips[0], "What?"))
        wait_until(lambda: served.server._arriving == 1)
        time.sleep(0.2)
        start = time.monotonic()
        served.stop()
        assert found.result().status_code == 503
    assert time.monotonic() - start < 10


def is_closed(port):
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) != 0


def refused(capsys, *options):
    assert main(["serve", *map(str, options)]) != 0
    return capsys.readouterr().err


def test_a_port_that_somebody_listens_at_is_refused_before_anything_is_opened(nano_bundle, capsys):
    with listening("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        said = refused(capsys, nano_bundle, "--port", port)
    assert f"cannot listen at 127.0.0.1:{port}" in said
    assert "give another --port" in said
    assert "opening" not in said


def test_a_bundle_for_another_device_is_refused_with_what_to_do(nano_bundle, capsys, tmp_path):
    copy = copytree(nano_bundle, tmp_path / "gpu.stts")
    manifest = read_manifest(copy / "manifest.json")
    elsewhere = replace(manifest, engine=replace(manifest.engine, device="cuda"))
    (copy / "manifest.json").write_bytes(manifest_bytes(elsewhere))
    said = refused(capsys, copy, "--port", 0)
    assert said.startswith("error: ")
    assert "answers at" not in said


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--host", "0.0.0.0"], "give --keys FILE"),
        (["--keys", "/none"], "cannot be read"),
        (["--tls-cert", "cert.pem"], "belong together"),
        (["--tls-cert", "/none", "--tls-key", "KEYS"], "--tls-cert /none cannot be read: No such file"),
        (["--tls-cert", "KEYS", "--tls-key", "/none"], "--tls-key /none cannot be read: No such file"),
        (["--allow-folder", "/none"], "is no folder"),
        (["--waiting", "0"], "--waiting is 0, wanted at least 1"),
        (["--stop-seconds", "-1"], "wanted at least 0"),
        (["--port", "99999"], "cannot listen at"),
        (["--host", "no.such.host.invalid", "--keys", "KEYS"], "cannot listen at"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(nano_bundle, capsys, tmp_path, options, told):
    (tmp_path / "keys").write_text("a-key-of-some-length\n")
    options = [str(tmp_path / "keys") if one == "KEYS" else one for one in options]
    said = refused(capsys, nano_bundle, *options)
    assert told in said
    assert said.count("\n") == 1


def test_what_is_no_certificate_is_said_with_the_names_of_both_files(nano_bundle, certificate, capsys, tmp_path):
    (tmp_path / "other.pem").write_text("no certificate\n")
    for pair in ((tmp_path / "other.pem", certificate / "key.pem"), (certificate / "cert.pem", tmp_path / "other.pem")):
        said = refused(capsys, nano_bundle, "--port", 0, "--tls-cert", pair[0], "--tls-key", pair[1])
        assert f"--tls-cert {pair[0]} and --tls-key {pair[1]} are no certificate and its key (" in said
        assert "opening" not in said
        assert said.count("\n") == 1


@pytest.fixture
def locked_key(certificate, tmp_path):
    """A key with a password."""
    key = tmp_path / "locked.pem"
    command = ["openssl", "rsa", "-aes256", "-passout", "pass:secret", "-in", certificate / "key.pem", "-out", key]
    subprocess.run(command, check=True, capture_output=True)
    return key


def test_a_key_with_a_password_is_not_asked_for_it_by_the_check(certificate, locked_key):
    _check_certificate(certificate / "cert.pem", locked_key)


def test_a_wrong_password_is_told_as_one(nano_bundle, certificate, locked_key):
    command = [sys.executable, "-m", "stts_runtime", "serve", nano_bundle, "--port", 0]
    command += ["--tls-cert", certificate / "cert.pem", "--tls-key", locked_key]
    done = subprocess.run(
        list(map(str, command)), input="wrong\n", capture_output=True, text=True, start_new_session=True, timeout=120
    )
    assert done.returncode == 2
    assert f"error: --tls-key {locked_key} cannot be opened: its password was wrong" in done.stderr
    assert "answers at" not in done.stderr


def test_metrics_tell_of_queue_tokens_stages_and_caches(served, clips):
    question = clips[0].questions[0]
    for _ in range(2):
        usage = served.ask(request(clips[0], question)).json()["usage"]
    text = httpx.get(f"{served.url}/metrics").text
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(values['stts_tokens_total{kind="answer"}']) >= 2 * usage["completion_tokens"]
    vision = usage["prompt_tokens_details"]
    assert float(values['stts_tokens_total{kind="vision"}']) >= 2 * vision["vision_tokens"]
    assert values['stts_cache_total{cache="clip",result="miss"}'] == "1.0"
    assert float(values['stts_cache_total{cache="clip",result="hit"}']) >= 1
    assert float(values['stts_stage_seconds_count{stage="prefill"}']) == 2
    assert float(values['stts_stage_seconds_count{stage="vision_encode"}']) == 1
    assert values["stts_waiting_requests"] == values["stts_running_requests"] == "0.0"
    assert values["stts_kept_conversations"] != "0.0"
    assert float(values['stts_requests_total{route="/v1/chat/completions",status="200"}']) == 2


def test_health_says_when_nothing_is_answered_any_more(nano_bundle):
    with serving(nano_bundle) as served:
        assert httpx.get(f"{served.url}/health").status_code == 200
        served.server.worker.end()
        answer = httpx.get(f"{served.url}/health")
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "not_answering")
        assert served.ask(b"{}").status_code == 400


def test_nothing_is_left_in_the_folder_for_temporary_files(nano_bundle, clips, tmp_path):
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    code = (
        "import sys, json, httpx\n"
        "from pathlib import Path\n"
        "from reference.serving import serving\n"
        "with serving(Path(sys.argv[1])) as served:\n"
        "    content = Path(sys.argv[2]).read_bytes()\n"
        "    sent = httpx.post(served.url + '/v1/files', files={'file': ('a', content)})\n"
        "    assert sent.status_code == 200, sent.text\n"
    )
    line = [sys.executable, "-c", code, str(nano_bundle), str(clips[0].path)]
    subprocess.run(line, check=True, env=environment, timeout=60)
    assert list(tmp_path.iterdir()) == []
