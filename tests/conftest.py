"""Settings every test shares, and what is made once in a test run."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest


os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Tensors here are small: a second thread costs more than it brings, and the other cores have tests of their own.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("STTS_THREADS", "1")


if TYPE_CHECKING:
    from stts_export.graph.capture import Capture


def pytest_configure(config: pytest.Config) -> None:
    """Prepare a process that runs tests; one that only hands them out needs none of these libraries."""
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        return
    from hypothesis import settings

    prepare_imports()
    settings.register_profile("patient", deadline=None)  # the machine may be busy with other things
    settings.load_profile("patient")
    gc.set_threshold(20_000)  # the tracer makes objects by the hundred thousand, and few of them are garbage


def prepare_imports() -> None:
    """Make transformers importable; to be called before anything imports it."""
    from stts_export.bench.import_transformers import make_transformers_importable

    make_transformers_importable()


@pytest.fixture(scope="module", autouse=True)
def _lasting_objects_are_not_searched() -> None:
    """Spare the garbage collector what stays: modules, and what libraries remember, are a million objects.

    Training and engines ask for whole collections, of which each would take longer than what a test does.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of this test run share, and no other run."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    folder = folder / "run"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def captured(run_folder: Path) -> Capture:
    """`capture`, which traces a part once in a test run."""
    from reference.capture_once import capture_once  # torch's exporter, which most tests do without

    return capture_once(run_folder)


@pytest.fixture(scope="session")
def nano_bundle(run_folder: Path, captured: Capture) -> Path:
    """The bundle of nano, verified, as `stts-export build --model nano` makes it; not to be changed."""
    from reference.nano import build_nano

    return build_nano(run_folder, captured)


@pytest.fixture(scope="session")
def plugin_bundle(run_folder: Path, captured: Capture) -> Path:
    """A toy bundle with plugins for RTX cards, verified, without engines; not to be changed."""
    from reference.plugin_bundle import build_plugin_bundle

    return build_plugin_bundle(run_folder, captured)


@pytest.fixture(scope="session")
def toy_bundle(run_folder: Path, captured: Capture) -> Callable[[str], Path]:
    """Where the toy bundle of a kind (`ffd`, `ragged`, `dense`) lies; not to be changed, other tests read it too."""
    from reference.toy_bundle import toy_bundles

    return toy_bundles(run_folder, captured)


@pytest.fixture(scope="session")
def qwen_bundle(run_folder: Path, captured: Capture) -> Callable[[str], Path]:
    """Where the toy Qwen3-VL bundle of a kind (`ragged`, `ffd`, `dense`, `plugin`) lies; not to be changed."""
    from reference.qwen3_vl_bundle import qwen_bundles

    return qwen_bundles(run_folder / "qwen3-vl", captured)
