"""What spoilt inputs are made from: a whole toy bundle, its checkpoint and its recipe."""

from __future__ import annotations

from pathlib import Path

from reference.toy_bundle import toy_request

from stts_export.pipeline import build


def make(folder: Path) -> None:
    """Write toy.stts, checkpoint and toy.toml into `folder`, which is made."""
    folder.mkdir(parents=True)
    request = toy_request(folder, "ffd")
    build(request)
    (folder / "ffd.stts").rename(folder / "toy.stts")
    (folder / "ffd-checkpoint").rename(folder / "checkpoint")
    (folder / "ffd.toml").rename(folder / "toy.toml")
