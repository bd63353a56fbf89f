"""Each command that wants an extra says so before it works, in one message with the line that installs it."""

import importlib.util
import re
from pathlib import Path

import pytest

from stts_export.bench.run import BenchRequest, other_subjects
from stts_export.checkpoint.smollm2 import open_gguf
from stts_export.cli import main
from stts_export.errors import PackageError
from stts_runtime.bundle.open import open_bundle


@pytest.fixture
def lacking(monkeypatch):
    """Make modules be missing."""
    find = importlib.util.find_spec

    def without(*names):
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name, package=None: None if name in names else find(name, package)
        )

    return without


@pytest.mark.parametrize(
    "command",
    [
        ("bench", "none.stts", "--video", "none.mp4", "--output", "out"),
        ("eval", "none.stts", "-o", "out"),
        ("estimate", "--model", "micro", "--target", "cpu", "--plot", "plot.png"),
    ],
    ids=lambda command: command[0],
)
def test_pictures_are_refused_before_anything_is_measured(command, lacking, tmp_path, monkeypatch, capsys):
    lacking("matplotlib")
    monkeypatch.chdir(tmp_path)
    assert main(command) == 1
    assert capsys.readouterr().err == (
        "error: pictures need matplotlib, which is not installed: pip install 'stts-export[plots]'\n"
    )
    assert not list(tmp_path.iterdir())


def test_times_beside_transformers_are_refused_before_the_weights_are_read(lacking, toy_bundle, tmp_path):
    lacking("transformers")
    bundle = open_bundle(toy_bundle("ffd"))
    request = BenchRequest(bundle.path, tmp_path, checkpoint=lambda config: object(), frames=(16,))
    with pytest.raises(PackageError, match=r"pip install 'stts-export\[bench\]', or leave them out with a bare"):
        other_subjects(request, bundle.manifest, [0.0, 0.5])


def test_micro_without_its_reader_is_told_what_reads_it(lacking, tmp_path):
    lacking("gguf")
    with pytest.raises(PackageError, match=r"need gguf, which is not installed: pip install 'stts-export\[micro\]'"):
        open_gguf(tmp_path / "none.gguf")


def test_every_extra_that_a_message_names_exists():
    root = Path(__file__).parents[2]
    for distribution, pyproject in (
        ("stts-export", "pyproject.toml"),
        ("stts-runtime", "runtimes/python/pyproject.toml"),
    ):
        text = (root / pyproject).read_text().partition("[project.optional-dependencies]")[2].partition("\n[")[0]
        extras = set(re.findall(r"^([\w-]+) = \[", text, re.M))
        for file in (*root.glob("stts_export/**/*.py"), *root.glob("runtimes/**/*.py"), *root.glob("docs/**/*.md")):
            for named in re.findall(rf"{distribution}\[([a-z0-9,-]+)\]", file.read_text()):
                assert set(named.split(",")) <= extras, file
