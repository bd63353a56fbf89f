"""`optimum-cli export stts`, by the optimum that `make setup` installs."""

import argparse
import importlib.util
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tomllib

import stts_export.pipeline
from stts_export.cli import main as stts_export_main
from stts_runtime.errors import UsageError


ROOT = Path(__file__).parents[3]
FILE = ROOT / "stts_export/cli/optimum_export.py"
INSTALLED = "optimum/commands/register/stts.py"


def has(module):
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


needs_optimum = pytest.mark.skipif(
    not has("optimum.commands.optimum_cli"), reason="optimum is not installed: make setup installs it"
)


@pytest.fixture
def command():
    """The module, as optimum loads it."""
    return runpy.run_path(str(FILE))


def options_of(parser):
    """All that a parser takes but its output, with what it does with it."""
    return {
        action.dest: (action.nargs, action.const, action.default, action.type, action.required, action.help)
        for action in parser._actions
        if action.dest != "output"
    }


def test_the_wheel_has_it_where_optimum_looks():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    forced = settings["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert forced[str(FILE.relative_to(ROOT))] == INSTALLED
    assert FILE.is_file()
    assert not any("optimum" in name for name in settings["project"]["dependencies"])


@needs_optimum
def test_its_options_are_those_of_the_build_command(command):
    ours = argparse.ArgumentParser()
    command["SttsExportCommand"].parse_args(ours)
    commands = argparse.ArgumentParser().add_subparsers()
    stts_export.cli.build.add(commands)
    assert options_of(ours) == options_of(commands.choices["build"])


@needs_optimum
def test_it_asks_the_pipeline_for_the_same_bundle(command, monkeypatch, capsys):
    asked = []

    def refuse(request, *_):
        asked.append(request)
        raise UsageError("only asked")

    monkeypatch.setattr(stts_export.pipeline, "build", refuse)
    options = ["--target", "jetson-orin", "--prune", "0.3", "--keep-float", "a", "b", "--no-verify", "--batch", "2"]
    assert stts_export_main(["build", "--model", "micro", "-o", "out.stts", *options]) == 2
    parser = argparse.ArgumentParser()
    command["SttsExportCommand"].parse_args(parser)
    with pytest.raises(SystemExit) as ended:
        run(command, parser, ["-m", "micro", "out.stts", *options])
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: only asked\n" * 2
    assert asked[0] == asked[1]


def run(command, parser, arguments):
    """Do what optimum does once it has parsed."""
    made = command["SttsExportCommand"](None, parser.parse_args(arguments), from_defaults_factory=True, parser=parser)
    made.run()


@needs_optimum
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("-m", "no-such-model", "out.stts"), 2, "error: no "),
        (("-m", "micro"), 2, "the following arguments are required: output"),
    ],
)
def test_optimum_cli_runs_it_and_ends_with_its_exit_code(tmp_path, arguments, code, message):
    done = optimum_cli(tmp_path, "export", "stts", *arguments)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out.stts").exists()


@needs_optimum
def test_optimum_cli_lists_it_and_its_help_has_examples(tmp_path):
    assert "stts" in optimum_cli(tmp_path, "export", "--help").stdout
    said = optimum_cli(tmp_path, "export", "stts", "--help").stdout
    assert "optimum-cli export stts -m micro micro.stts" in said
    assert "--keep-float" in said


def optimum_cli(folder, *arguments):
    """Run `optimum-cli`, with the file where the wheel has it: an installation made before it came has none there."""
    paths = [str(ROOT), str(ROOT / "runtimes/python")]
    if not has("optimum.commands.register.stts"):
        place = folder / "site" / INSTALLED
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(FILE, place)
        paths.append(str(folder / "site"))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")])}
    code = "import sys; sys.argv[0] = 'optimum-cli'; from optimum.commands.optimum_cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )
