"""Completion scripts know every command, and shells take them."""

import shutil
import subprocess
import sys

import pytest

from stts_export.cli import main as export
from stts_runtime.cli import main as runtime
from stts_runtime.cli.completion import SHELLS


PROGRAMS = {"stts-export": export, "stts-runtime": runtime}


def script(program, shell, capsys):
    assert PROGRAMS[program](["completion", shell]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_names_commands_and_options_and_its_shell_can_read_it(program, shell, capsys, tmp_path):
    text = script(program, shell, capsys)
    for word in ("build", "verify", "doctor", "overwrite" if program == "stts-export" else "frames"):
        assert word in text
    if shutil.which(shell) is None:
        return  # what follows asks the shell itself, and the names above were looked at
    file = tmp_path / "script"
    file.write_text(text)
    done = subprocess.run([shell, "-n", str(file)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


COMPLETE = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_shtab_stts_export
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("stts-export", "bui"), {"build"}),
        (("stts-export", "build", "--over"), {"--overwrite"}),
        (("stts-export", "completion", ""), {*SHELLS}),
        (("stts-export", "verify", "mic"), {"micro.stts"}),  # a folder
        (("stts-export", "build", "--model", "mic"), {"micro.stts"}),  # may be a name, too
        (("stts-export", "estimate", "--target", "mic"), {"micro.stts"}),
    ],
)
def test_bash_completes_commands_options_choices_and_bundles(words, wanted, capsys, tmp_path):
    file = tmp_path / "script"
    file.write_text(script("stts-export", "bash", capsys))
    (tmp_path / "micro.stts").mkdir()
    command = ["bash", "-c", COMPLETE, "bash", str(file), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path, check=False)
    assert wanted <= set(done.stdout.split()), done.stderr


@pytest.mark.parametrize(
    ("program", "line"), [("stts-export", "pip install shtab"), ("stts-runtime", "'stts-runtime[completion]'")]
)
def test_without_the_library_the_message_says_how_to_get_it(program, line, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert PROGRAMS[program](["completion", "bash"]) == 2
    assert line in capsys.readouterr().err


def test_another_shell_is_wrong_use(capsys):
    with pytest.raises(SystemExit) as ended:
        export(["completion", "tcsh"])
    assert ended.value.code == 2
