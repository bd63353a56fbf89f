"""Bundles of the shipped model nano, each built once in a test run."""

from pathlib import Path

import pytest

from reference.once import once
from stts_export.graph.capture import Capture
from stts_export.pipeline import BuildRequest, build


def build_nano(folder: Path, capture: Capture, scorer: str | None = None, model: str = "nano") -> Path:
    """Return the bundle with that scorer, by default its own; built in `folder` when it is first asked for.

    Only the one with its own scorer is verified: what another one changes is tested on smaller models.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STTS_EXPORT_CACHE", str(folder / "nano-cache"))
        path = folder / f"{model}-{scorer or 'own'}.stts"
        return once(
            path,
            lambda path: build(
                BuildRequest(model, path, scorer=scorer, batch=8, verify=scorer is None), capture=capture
            ),
        )
