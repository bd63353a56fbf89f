"""The runtime stays light: what it imports, when, how fast, and on which Python."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from reference.toy_bundle import toy_frames

import stts_runtime


PACKAGE = Path(stts_runtime.__file__).parent
LAZY = ("onnxruntime", "tensorrt", "tensorrt_rtx", "cuda", "av", "tokenizers")
SERVING = ("anyio", "h11", "prometheus_client", "starlette", "uvicorn")  # the extra `serve`, imported by its command
EXTRAS = {  # what an extra brings, for its own room alone
    "batch": ("ray",),
    "cli": ("shtab",),
    "clip": ("PIL",),  # of images
    "hub": ("huggingface_hub", "tqdm"),
}
NEVER = ("torch", "transformers", "onnx", "onnx_ir", "onnxscript", "stts_export", "matplotlib", "PIL", "safetensors")


def run(code: str, *arguments: str) -> str:
    command = [sys.executable, "-W", "error", "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "statement", ["import stts_runtime", "from stts_runtime import load", "import stts_runtime.cli"]
)
def test_importing_it_imports_no_engine_no_decoder_and_nothing_of_the_compiler(statement):
    loaded = run(f"{statement}\nimport sys\nprint(*sys.modules)").split()
    assert not {name.partition(".")[0] for name in loaded} & {*LAZY, *SERVING, *NEVER, "huggingface_hub"}


def test_every_public_name_can_be_imported_and_a_wrong_one_is_an_attribute_error():
    for name in stts_runtime.__all__:
        assert getattr(stts_runtime, name).__name__ == {"ProfileError": "LimitError"}.get(name, name)  # an alias
    assert dir(stts_runtime) == stts_runtime.__all__
    with pytest.raises(AttributeError, match="laod"):
        stts_runtime.laod  # noqa: B018


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("*.py")), ids=lambda file: str(file.relative_to(PACKAGE)))
def test_every_module_is_python_3_10(file):
    ast.parse(file.read_text(), feature_version=(3, 10))


def imported(tree: ast.AST, top_level: bool) -> set[str]:
    """Packages imported by a module, at its top level only or anywhere."""
    nodes = ast.iter_child_nodes(tree) if top_level else ast.walk(tree)
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").partition(".")[0])
    return names


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("*.py")), ids=lambda file: str(file.relative_to(PACKAGE)))
def test_a_module_imports_numpy_only_and_its_engine_tokenizer_or_decoder_when_used(file):
    tree = ast.parse(file.read_text())
    is_serving = file.relative_to(PACKAGE).parts[0] == "serve"
    ours = {*sys.stdlib_module_names, "numpy", "stts_runtime", *(SERVING if is_serving else ())}
    assert imported(tree, top_level=True) <= ours
    assert imported(tree, top_level=False) <= {*ours, *LAZY, *EXTRAS.get(file.relative_to(PACKAGE).parts[0], ())}


ANSWER = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ImportError(f"{name} is blocked")

BLOCKED = set(sys.argv[3].split(","))
sys.meta_path.insert(0, Blocker())

import numpy
from stts_runtime import load

with load(sys.argv[1], check=True) as model:
    conversation = model.look(numpy.load(sys.argv[2]))
    print(conversation.ask("What happens?", max_tokens=4).encode().hex() or "-")
    print(conversation.ask("And then?", max_tokens=4).encode().hex() or "-")
assert not BLOCKED & {name.partition(".")[0] for name in sys.modules}
"""


def test_nothing_is_left_in_home_or_temporary_folder_and_no_library_reports_to_its_maker(toy_bundle, tmp_path):
    np.save(tmp_path / "frames.npy", toy_frames(2))
    homes = {"HOME": tmp_path / "home", "TMPDIR": tmp_path / "tmp"}
    for folder in homes.values():
        folder.mkdir()
    unset = (
        "CI",
        "ORT_DISABLE_TELEMETRY",
        "XDG_CACHE_HOME",
    )  # with which onnxruntime would be quiet, or write elsewhere
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    command = [sys.executable, "-c", ANSWER, str(toy_bundle("ffd")), str(tmp_path / "frames.npy"), "torch"]
    subprocess.run(command, env={**environment, **{name: str(path) for name, path in homes.items()}}, check=True)
    assert [path for folder in homes.values() for path in folder.rglob("*") if path.is_file()] == []


def test_a_bundle_answers_where_nothing_of_the_compiler_can_be_imported(toy_bundle, tmp_path):
    frames = toy_frames(4)
    np.save(tmp_path / "frames.npy", frames)
    blocked = ",".join((*NEVER, "av"))
    lines = run(ANSWER, str(toy_bundle("ffd")), str(tmp_path / "frames.npy"), blocked).splitlines()
    with stts_runtime.load(toy_bundle("ffd")) as model:
        conversation = model.look(frames)
        expected = [conversation.ask(question, max_tokens=4) for question in ("What happens?", "And then?")]
    assert [bytes.fromhex(line.strip("-")).decode() for line in lines] == expected
