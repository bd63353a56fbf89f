"""A checkpoint on a hub: what kind of repository it is, and which of its files are fetched."""

from __future__ import annotations

from pathlib import Path

from stts_export.checkpoint.shards import INDEX_SUFFIX, PICKLES, weight_map
from stts_export.errors import CheckpointError
from stts_runtime.bundle.open import MANIFEST
from stts_runtime.hub.cache import snapshot_of
from stts_runtime.hub.fetch import Repository, fetched
from stts_runtime.progress import OnProgress, no_progress


WEIGHTS = "*.safetensors"
SMALL = (
    "config.json",
    "generation_config.json",
    "hf_quant_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "*processor_config.json",
    f"*{INDEX_SUFFIX}",
)
"""What is read beside weights; nothing that could be run, and no weights in other forms."""


def model_name(folder: Path) -> str:
    """Return what a model is called whose checkpoint lies in `folder`, which a hub names by a commit."""
    folder = folder.resolve()
    on_hub = snapshot_of(folder)
    return (folder.name if on_hub is None else on_hub.repository.partition("/")[2]).lower()


def fetch_checkpoint(found: Repository, on_progress: OnProgress = no_progress, weights: bool = True) -> Path:
    """Return the folder of the hub's cache with a repository's checkpoint.

    Args:
        found: from `repository`.
        on_progress: told how much of the weights is fetched.
        weights: whether they are needed: without, an index of them will do, and where there is none they are fetched.

    Raises:
        CheckpointError: the repository holds none, or a bundle.
        HubError: a file is missing, or the hub stopped answering.
    """
    check_is_checkpoint(found)
    folder = fetched(found, patterns=SMALL)
    indices = [file for file in found.top if file.endswith(INDEX_SUFFIX)]
    if len(indices) != 1:  # several are refused where they are read
        return fetched(found, patterns=(WEIGHTS,), on_progress=on_progress)
    shards = sorted(set(weight_map(folder / indices[0]).values()))
    return fetched(found, shards, on_progress=on_progress) if weights else folder


def check_is_checkpoint(found: Repository) -> None:
    """Raise CheckpointError unless a repository holds weights that can be read, as far as the names of files tell."""
    if MANIFEST in found.sizes:
        raise CheckpointError(
            f"{found.name} is a bundle already ({MANIFEST}), and not a checkpoint to make one of: `stts-runtime run "
            f"{found.name}` asks it, `stts-runtime pull {found.name} -o NAME.stts` copies it"
        )
    if any(file.endswith((".safetensors", INDEX_SUFFIX)) for file in found.top):
        return
    pickles = [file for file in found.top if file.endswith(PICKLES)]
    if found.is_cached and not pickles:
        raise CheckpointError(
            f"no weights of {found.name} are in the hub's cache (commit {found.commit}), and the hub is not asked: run "
            "this once where there is a network, and without HF_HUB_OFFLINE"
        )
    instead = (
        f", but {pickles[0]}: weights in pickle form are not opened, since reading them can run code. Ask its owner "
        f"for safetensors, or name a revision that has them, {found.name.repository}@REVISION"
        if pickles
        else ": it is not the repository of a checkpoint's weights"
    )
    raise CheckpointError(f"{found.name} holds no {WEIGHTS}{instead}")
