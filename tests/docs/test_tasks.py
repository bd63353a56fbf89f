"""The pages of docs/tasks, followed from start to end with a toy model under the names that they use.

Every command of theirs is run as it stands there, with what makes it small behind it. What this machine lacks stands
in: recorded readings of an Orin for the device, a bundle of two small graphs for TensorRT to build, onnxruntime's
engines where engines answer. What is no command of ours is among `ELSEWHERE`, or run by the page's own test.
"""

import contextlib
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import httpx
import pytest
from reference.device_bundle import PROBES, write_device_bundle
from reference.documented import OURS, ROOT, Command, commands
from reference.engine_bundle import probe_of, write_engine_bundle
from reference.small_faults import changed, scaled
from reference.streams import write_stream
from reference.toy_bundle import toy_config, write_toy_checkpoint, write_toy_recipe
from reference.verified_bundle import verified_bundle

from stts_export import pipeline
from stts_export.doctor import check as host_check
from stts_runtime import build as build_module
from stts_runtime.device import readings
from stts_runtime.device.finding import OK, Finding
from stts_runtime.serve import listen


TASKS = {page.stem: page.read_text() for page in sorted((ROOT / "docs/tasks").glob("*.md"))}
ELSEWHERE = {
    "pip": "tests/test_packages.py builds the wheels and looks into them, `make release-check` installs them",
    "python3": "makes an environment",
    "source": "enters it",
}
SMALL = {
    "build": "--max-frames 8 --max-tokens 512 --chunk-frames 3 --max-crops 0",
    "data": "--workers 1",
    "train": "--model molmo2-4b --cpu --workers 0 --steps 2 --clips-per-step 2 --frames 3",
    "eval": "--frames 4 --questions 4",
    "run": "--frames 4 --max-tokens 2",
    "bench": "--frames 4 --repeats 1",
    "watch": "--frames 4 --max-tokens 2",
    "batch": "--frames 4 --max-tokens 2",
}
"""Command -> options behind those of the page, of which the last counts."""


class Walk:
    """A folder in which a page is followed."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capsys = folder, capsys
        self.ran: list[str] = []
        write_stream(folder / "clip.mp4", 25)

    def model(self, name: str, checkpoint: str, scorer: str = "learned") -> None:
        """Put a toy model where the page has one: a recipe under its name, a checkpoint in the home of who reads it."""
        config = toy_config("qwen3", scorer)
        write_toy_recipe(self.folder / f"{name}.toml", config)
        if checkpoint:
            write_toy_checkpoint(self.folder / checkpoint, config)

    def run(self, command: Command, code: int = 0, more: str = "") -> str:
        """Run a command that must end with `code`, and return what it printed."""
        program, name, *rest = command.words
        given = [*rest, *(more or SMALL.get(name, "")).split()]
        words = [small for place, word in enumerate(given) for small in self._small(given[place - 1], word)]
        ended = OURS[program].main([name, *words])
        said = self._capsys.readouterr()
        assert ended == code, f"{command.line}\n{said.err}\n{said.out}"
        self.ran.append(command.line)
        return said.out

    def _small(self, before: str, word: str) -> list[str]:
        """Return a word with the toy in the model's place; where a checkpoint is the model its recipe is named too."""
        recipe = self.folder / f"{Path(word).name.lower()}.toml"
        if word.startswith("~"):
            folder = word.replace("~", str(self.folder))
            return [str(recipe), "--checkpoint", folder] if before == "--model" else [folder]
        return [str(recipe)] if recipe.exists() else [word]


@pytest.fixture
def walk(tmp_path, monkeypatch, capsys, captured):
    """A folder to follow a page in, with graphs that are traced once in a test run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pipeline, "build", partial(pipeline.build, capture=captured))
    monkeypatch.setattr(host_check, "torch_finding", lambda ask: Finding(OK, "torch", "not asked"))
    return Walk(tmp_path, capsys)


@pytest.fixture
def _orin(monkeypatch):
    """This machine is an Orin as far as readings tell, and another that TensorRT-RTX builds on."""
    orin = readings.read_recording(PROBES / "agx_orin_jp62.json")
    monkeypatch.setattr(readings, "read_device", lambda disk: orin)
    monkeypatch.setattr(build_module, "probe_device", lambda **_: probe_of())


def steps(page: str) -> list[Command]:
    """Return the commands of a page that are ours; all others are known."""
    found = commands(TASKS[page])
    assert {command.program for command in found} <= {*OURS, *ELSEWHERE, "curl", "openssl"}
    return [command for command in found if command.program in OURS]


def test_every_task_has_a_test_of_its_own():
    here = Path(__file__).read_text()
    assert set(TASKS) == {"failing-verify", "jetson", "prune", "serve", "train", "verify"}
    assert all(f'steps("{page}")' in here for page in TASKS)


@pytest.mark.slow
@pytest.mark.usefixtures("_orin")
def test_build_for_a_jetson(walk, toy_bundle, tmp_path):
    walk.model("lite", "Molmo2-4B-Lite-50")
    device = device_folder(tmp_path, toy_bundle)
    for command in steps("jetson"):
        if command.words[1] == "estimate":  # which is arithmetic, of the real model
            assert "PREDICTED" in walk.run(command)
        elif command.program == "stts-export":
            with renamed(tmp_path, "lite.toml", "molmo2-4b-lite-50.toml"):
                walk.run(command)
        else:
            on_the_device(walk, device, command)
    assert len(walk.ran) == 9


@pytest.mark.slow
def test_prune_your_own_model(walk, tmp_path):
    walk.model("molmo2-4b", "Molmo2-4B", "none")
    for command in steps("prune"):
        said = walk.run(command, more="--clips 24 --workers 1" if command.words[1] == "data" else "")
        assert command.words[1] != "bench" or "50" in said
    assert (tmp_path / "pruned.png").stat().st_size > 0
    assert (tmp_path / "results/eval.png").stat().st_size > 0


@pytest.mark.slow
def test_train_a_scorer(walk, tmp_path):
    walk.model("molmo2-4b", "Molmo2-4B", "none")
    walk.model("molmo2-4b-lite-50", "")
    for command in steps("train"):
        small = {"data": "--clips 24 --workers 1", "eval": "--frames 3 --questions 4 --prune 0 0.5 --device cpu"}
        walk.run(command, more=small.get(command.words[1], "") if len(command.words) > 5 else " ")
    assert (tmp_path / "run/scorer/model").is_dir()
    assert (tmp_path / "sheet.png").stat().st_size > 0


@pytest.mark.usefixtures("_orin")
def test_verify_on_the_device(walk, toy_bundle, tmp_path):
    device = device_folder(tmp_path, toy_bundle)
    for command in steps("verify"):
        on_the_device(walk, device, command)
    assert len(walk.ran) == 8


def device_folder(folder, toy_bundle):
    """Return a folder with what stands in for `lite.stts`: a bundle for an Orin, one to build, one that answers."""
    device = folder / "device"
    device.mkdir()
    write_device_bundle(device / "doctor.stts")
    write_engine_bundle(device / "build.stts")
    (device / "answers.stts").symlink_to(toy_bundle("dense"))
    shutil.copy(folder / "clip.mp4", device)
    return device


def on_the_device(walk, device, command):
    """Run a command of the device with what stands in for its bundle."""
    name = command.words[1]
    stands_in = device / f"{name if name in ('doctor', 'build') else 'answers'}.stts"
    more = "--compute-capability 86" if name == "build" else SMALL.get(name, "") + " --prune 0" * (name == "bench")
    with renamed(device, stands_in.name, "lite.stts"), contextlib.chdir(device):
        walk.run(command, more=more or " ")


@contextlib.contextmanager
def renamed(folder, name, other):
    """Give a file another name meanwhile."""
    (folder / name).rename(folder / other)
    yield
    (folder / other).rename(folder / name)


def test_read_a_failing_verify(walk, toy_bundle, tmp_path):
    verified_bundle(toy_bundle("ffd"), "ffd", tmp_path / "lite.stts")
    shutil.copytree(tmp_path / "lite.stts", tmp_path / "broken.stts")
    changed(tmp_path / "broken.stts", "vision_score", scaled("linear_4", 1.01))
    for command in steps("failing-verify"):
        is_failing = command.words[1] == "verify" and "broken.stts" in command.words
        said = walk.run(command, code=int(is_failing))
        if is_failing:
            assert "FAIL" in said
            assert "vision_score departs from the model" in " ".join(said.split())
        if "--reduce" in command.words:
            assert "reduced: vision_score departs at aten.linear.default" in said
            assert (tmp_path / "why/reduced.onnx").is_file()
        if "--save-inputs" in command.words:
            assert "polygraphy run" in said


@pytest.mark.slow
def test_serve(walk, toy_bundle, tmp_path, monkeypatch):
    if not all(map(shutil.which, ("curl", "openssl"))):
        pytest.skip("no curl or no openssl is installed here")
    walk.model("nano", "")
    shutil.copytree(toy_bundle("ragged"), tmp_path / "nano.stts")
    found = commands(TASKS["serve"])
    asked = [command.line for command in found if command.program == "curl"]
    with served(tmp_path) as address:
        for line in asked:
            assert run_line(line.replace("http://127.0.0.1:8000", address), tmp_path), line
    shutil.rmtree(tmp_path / "nano.stts")
    (line,) = (command.line for command in found if command.program == "openssl")
    run_line(line, tmp_path)
    subject = ["-subj", "/CN=camera.example.org", "-keyout", "key.pem", "-out", "cert.pem"]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *subject], check=True, capture_output=True
    )
    (tmp_path / "questions.jsonl").write_text('{"clip": "clip.mp4", "question": "What?"}\n')
    listened = []
    serve = listen.serve

    async def at_once():
        """Serve nobody."""

    def briefly(loop, listener):
        listened.append(listener.getsockname()[1])
        loop.main_loop = at_once
        serve(loop, listener)

    monkeypatch.setattr(listen, "serve", briefly)
    commands_here = steps("serve")[1:]  # the first serves above
    weights = f"--checkpoint {write_toy_checkpoint(tmp_path / 'weights', toy_config())} --packing ragged "
    for command in commands_here:
        name = command.words[1]
        walk.run(command, more={"build": weights + SMALL["build"], "serve": "--port 0"}.get(name, ""))
    assert len(listened) == 2
    assert (tmp_path / "answers.jsonl").read_text().count("\n") == 1


@contextlib.contextmanager
def served(folder):
    """Serve `nano.stts` as the page's first command does, at a port of its own, and give the address."""
    command = [sys.executable, "-m", "stts_runtime", *steps("serve")[0].words[1:], "--port", "0"]
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True) as process:
        try:
            address = next(line for line in process.stderr if " answers at " in line).split()[3].removesuffix("/v1,")
            for _ in range(100):
                with contextlib.suppress(httpx.TransportError):
                    if httpx.get(f"{address}/health").status_code == 200:
                        break
            yield address
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=30)


def run_line(line, folder):
    done = subprocess.run(line, shell=True, cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout or done.returncode == 0
