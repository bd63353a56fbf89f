import importlib.util
import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest


ROOT = Path(__file__).parents[2]
SPEC = importlib.util.spec_from_file_location("set_up", ROOT / "tools/set_up.py")
set_up = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(set_up)


def test_the_demo_installs_nothing_that_only_tests_need():
    words = [word for _, _, packages in set_up.STEPS["base"] for word in packages]
    assert not any("dev" in word or "ray" in word for word in words)
    assert "torch==2.13.0" in words


def test_torch_is_the_version_that_the_package_wants():
    assert '"torch==2.13.0"' in (ROOT / "pyproject.toml").read_text()


def test_an_old_python_is_told_which_one_to_take(tmp_path):
    with pytest.raises(set_up.SetUpError, match=r"Python 3\.11 or newer is needed, .* is 3\.10\.4.*PYTHON=python3\.11"):
        set_up.check(tmp_path / ".venv", 0, (3, 10, 4))


def test_a_full_disk_is_told_before_anything_is_fetched(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1 << 30))
    with pytest.raises(set_up.SetUpError, match=r"2 GiB are needed, 1\.0 GiB are free"):
        set_up.check(tmp_path / ".venv", 2 << 30)


def test_a_folder_that_is_read_only_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(set_up.SetUpError, match="cannot be written"):
        set_up.check(tmp_path / ".venv", 0)


def test_a_step_tells_its_last_line_while_it_runs(monkeypatch, capfd):
    monkeypatch.setattr(set_up, "TOLD_SECONDS", 0)
    code = "import time; print('Collecting torch', flush=True); time.sleep(1.2)"
    set_up.run_told("[2/3] torch", [sys.executable, "-c", code])
    said = capfd.readouterr().err.splitlines()
    assert said[0] == "[2/3] torch ..."
    assert any("s, Collecting torch" in line for line in said[1:-1])
    assert "done in" in said[-1]


def test_a_step_that_fails_shows_what_pip_said_last(capfd):
    code = "print('ERROR: No matching distribution found for torch==2.13.0'); raise SystemExit(1)"
    with pytest.raises(set_up.SetUpError, match=r"torch failed:\n[\s\S]*No matching distribution"):
        set_up.run_told("[2/3] torch", [sys.executable, "-c", code])


def test_an_environment_that_cannot_be_made_is_told_with_debians_package(tmp_path, monkeypatch):
    monkeypatch.setattr(set_up.sys, "executable", str(tmp_path / "python-without-venv"))
    with pytest.raises(set_up.SetUpError, match="python3-venv"):
        set_up.set_up(tmp_path / ".venv", "base")


def test_what_goes_wrong_is_one_message_and_a_code(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=0))
    assert set_up.main([str(tmp_path / ".venv"), "base"]) == 1
    assert capsys.readouterr().err.startswith("error: ")
