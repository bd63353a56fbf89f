"""What docs/serving.md shows works as it stands there."""

import re
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from stts_runtime.serve.limits import ServerLimits


PAGE = (Path(__file__).parents[3] / "docs/serving.md").read_text()
ADDRESS = "http://127.0.0.1:8000"


def blocks(kind):
    found = re.findall(rf"^```{kind}\n(.*?)^```", PAGE, re.M | re.S)
    assert found
    return found


@pytest.fixture
def folder(tmp_path, clips):
    """A folder with the clip of which the page speaks."""
    shutil.copy(clips[1].path, tmp_path / "clip.mp4")
    return tmp_path


@pytest.fixture
def answer(served, clips):
    return served.session.ask(clips[1].path, "What colour moves?")


def ran(line, folder):
    done = subprocess.run(line, cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_python_of_the_page_runs_and_prints_the_answer(served, folder, answer):
    (code,) = blocks("python")
    assert ADDRESS in code
    said = ran([sys.executable, "-c", code.replace(ADDRESS, served.url)], folder)
    assert said.startswith(answer)
    assert said.endswith(answer)
    assert "vision_tokens=64" in said


@pytest.mark.skipif(shutil.which("node") is None, reason="no node is installed here")
def test_the_javascript_of_the_page_runs_and_prints_the_answer(served, folder, answer):
    (code,) = blocks("js")
    read = 'import {readFileSync} from "node:fs"; const data = readFileSync("clip.mp4").toString("base64");\n'
    said = ran(["node", "--input-type=module", "-e", read + code.replace(ADDRESS, served.url)], folder)
    assert said.strip() == answer.strip()


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl is installed here")
def test_the_shell_of_the_page_runs(served, folder):
    (code,) = blocks("sh")
    for line in code.splitlines():
        said = ran(["sh", "-c", line.replace(ADDRESS, served.url)], folder)
        assert '"object":"file"' in said if "files" in line else '"id":"nano"' in said


def test_every_bound_and_every_code_of_its_refusal_is_told():
    for field in fields(ServerLimits):
        assert f"`--{field.name.replace('_', '-')}`" in PAGE
    source = "".join(
        file.read_text() for file in Path(sys.modules[ServerLimits.__module__].__file__).parent.glob("*.py")
    )
    for code in re.findall(r"(?:4\d\d|,) `(\w+)`", PAGE[PAGE.index("| too much of") :]):
        assert f'"{code}"' in source, code
