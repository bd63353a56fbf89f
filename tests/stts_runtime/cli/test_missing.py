import argparse
import importlib.metadata

import pytest

from stts_runtime.cli.command import add_command, guarded
from stts_runtime.cli.missing import missing_package


REQUIRED = [
    "numpy>=2.2",
    "torch==2.13.0",
    "pillow>=12",
    "pytest>=9; extra == 'dev'",
    'starlette>=0.47; extra == "serve"',
    "cuda-bindings==12.*; extra == 'tensorrt-cu12'",
]


@pytest.fixture(autouse=True)
def _metadata(monkeypatch):
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: REQUIRED)


def missing(module: str) -> ModuleNotFoundError:
    return ModuleNotFoundError(f"No module named {module!r}", name=module)


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("torch", "pip install 'torch==2.13.0'"),
        ("torch.onnx", "pip install 'torch==2.13.0'"),
        ("PIL", "pip install 'pillow>=12'"),
        ("starlette.routing", "pip install 'stts-runtime[serve]'"),
        ("cuda", "pip install 'stts-runtime[tensorrt-cu12]'"),
        ("sympy", "`pip check`"),  # what a package of ours needs, and we do not
        ("pytest", "`pip check`"),  # developers' extra is no answer for a user
    ],
)
def test_a_missing_package_is_named_with_the_line_that_installs_it(module, line):
    text = missing_package(missing(module), "stts-runtime")
    assert "is not installed for this Python (" in text
    assert line in text


def test_a_library_that_cannot_be_loaded_is_told_with_its_own_words():
    error = ImportError("libcudart.so.13: cannot open shared object file", name="torch")
    text = missing_package(error, "stts-runtime")
    assert "torch cannot be loaded" in text
    assert "libcudart.so.13: cannot open" in text


def test_code_that_only_lies_on_the_path_is_told_so():
    error = importlib.metadata.PackageNotFoundError("stts-export")
    assert "its code only lies on the path" in missing_package(error, "stts-export")


def test_a_module_of_our_own_that_is_missing_is_a_bug():
    assert missing_package(missing("stts_runtime.nothing"), "stts-runtime") is None


@pytest.mark.parametrize(("module", "said"), [("torch", "pip install 'torch"), ("stts_runtime.nothing", "a bug")])
@pytest.mark.parametrize("debug", [[], ["--debug"]])
def test_the_command_line_says_it_in_one_message(capsys, module, said, debug):
    def run(arguments):
        raise missing(module)

    def parser():
        made = argparse.ArgumentParser()
        add_command(made.add_subparsers(required=True), "it", run, "Try it.", "")
        return made

    if debug and module != "torch":
        with pytest.raises(ModuleNotFoundError):
            guarded(parser, ["it", *debug])
        return
    assert guarded(parser, ["it", *debug]) == 1
    assert said in capsys.readouterr().err
