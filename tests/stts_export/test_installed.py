import importlib.metadata

import pytest
from packaging.requirements import Requirement

from stts_export import installed
from stts_export.errors import PackageError


REQUIRED = [
    "numpy>=2.2",
    "torch==2.13.0",
    "stts-export[plots]; extra == 'bench'",
    "transformers==5.23.0; extra == 'bench'",
    "matplotlib>=3.10; extra == 'plots'",
    "stts-runtime[cpu]==0.1.0",
    "stts-runtime[rtx]; extra == 'rtx'",
]
OF_RUNTIME = ["numpy>=2.2", "onnxruntime>=1.23; extra == 'cpu'", "tensorrt-rtx-cu13==1.7; extra == 'rtx'"]


@pytest.fixture
def versions(monkeypatch):
    """What is installed, to be changed by a test."""
    found = {
        "numpy": "2.4.0",
        "torch": "2.13.0+cpu",
        "matplotlib": "3.9",
        "onnxruntime": "1.32.0",
        "stts-runtime": "0.1.0",
    }

    def version(name):
        if name not in found:
            raise importlib.metadata.PackageNotFoundError(name)
        return found[name]

    monkeypatch.setattr(importlib.metadata, "requires", lambda name: REQUIRED if name == "stts-export" else OF_RUNTIME)
    monkeypatch.setattr(importlib.metadata, "version", version)
    installed.requirements.cache_clear()
    yield found
    installed.requirements.cache_clear()


def test_an_extra_brings_what_the_extras_it_names_bring(versions):
    assert [one.name for one in installed.requirements()] == ["numpy", "torch", "stts-runtime", "onnxruntime"]
    assert [one.name for one in installed.requirements("bench")] == ["matplotlib", "transformers"]


def test_what_is_missing_or_too_old_is_a_misfit(versions):
    assert installed.misfits(installed.requirements()) == ()
    old, missing = installed.misfits(installed.requirements("bench"))
    assert old == (Requirement("matplotlib>=3.10"), "3.9")  # as pip is to be told
    assert missing[0].name == "transformers"
    assert missing[1] is None


def test_extras_of_the_runtime_are_looked_into_where_the_runtime_itself_is_here(versions):
    assert [(one.name, version) for one, version in installed.misfits(installed.requirements("rtx"))] == [
        ("tensorrt-rtx-cu13", None)
    ]
    versions["tensorrt-rtx-cu13"] = "1.7"
    assert installed.misfits(installed.requirements("rtx")) == ()


def test_without_the_runtime_it_is_what_is_missing(versions, monkeypatch):
    def requires(name):
        if name != "stts-export":
            raise importlib.metadata.PackageNotFoundError(name)
        return REQUIRED

    del versions["stts-runtime"]
    monkeypatch.setattr(importlib.metadata, "requires", requires)
    assert [one.name for one, _ in installed.misfits(installed.requirements("rtx"))] == ["stts-runtime"]


def test_torch_of_any_build_will_do_and_of_another_version_will_not(versions):
    installed.check_torch()
    versions["torch"] = "2.12.1+cu130"
    with pytest.raises(PackageError, match=r"torch 2\.12\.1\+cu130 is installed, wanted ==2\.13\.0.*'torch==2\.13\.0'"):
        installed.check_torch()
    del versions["torch"]
    with pytest.raises(PackageError, match=r"torch is not installed, wanted ==2\.13\.0"):
        installed.check_torch()


def test_code_without_metadata_is_told_how_to_be_installed(versions, monkeypatch):
    def nothing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", nothing)
    with pytest.raises(PackageError, match=r"only lies on Python's path: pip install -e"):
        installed.check_torch()


@pytest.mark.parametrize(
    ("module", "extra", "purpose"), [("matplotlib", "plots", "pictures"), ("gguf", "micro", "GGUF files")]
)
def test_an_extra_that_is_missing_is_named_with_its_line(monkeypatch, module, extra, purpose):
    monkeypatch.setattr(installed.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        PackageError, match=rf"{purpose} need {module}.*: pip install 'stts-export\[{extra}\]', or none"
    ):
        installed.check_extra(module, extra, purpose, ", or none")
