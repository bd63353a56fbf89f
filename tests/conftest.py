"""Settings every test shares."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest


os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Threads that wait should sleep: beside other work, spinning ones make small tensors slower by an order of magnitude.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from hypothesis import settings

from stts_export.bench.import_transformers import make_transformers_importable


make_transformers_importable()  # before anything imports transformers
torch.set_num_threads(2)
settings.register_profile("patient", deadline=None)  # the machine may be busy with other things
settings.load_profile("patient")


@pytest.fixture(scope="session")
def toy_bundle(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Where the toy bundle of a kind (`ffd`, `ragged`, `dense`) lies; not to be changed, other tests read it too."""
    from reference.toy_bundle import toy_bundles  # torch's exporter, which most tests do without

    return toy_bundles(tmp_path_factory.mktemp("toy"))
