"""What rounding costs a model that a person names, on text."""

from __future__ import annotations

from pathlib import Path

from stts_export.errors import UsageError
from stts_export.estimate.scenario import ITEM_BYTES
from stts_export.pipeline.request import BuildRequest, resolve
from stts_export.verify.sensitivity import Sensitivity, sensitivity
from stts_export.verify.text import LIMITS, text_ids
from stts_runtime.bundle.manifest import FLOAT
from stts_runtime.language.tokenizer import open_tokenizer
from stts_runtime.progress import Log, OnProgress, no_log, no_progress


def model_sensitivity(
    model: str,
    weights: str,
    checkpoint: str | Path | None = None,
    target: str = "cpu",
    on_progress: OnProgress = no_progress,
    log: Log = no_log,
) -> Sensitivity:
    """Return what rounding each layer of a model costs, and which to leave in floats.

    Args:
        model: a model recipe's name or path, a checkpoint directory, or its name on a hub.
        weights: what the decoder's weights are to be stored in.
        checkpoint: the weights, where `model` is a recipe that does not bring its own.
        target: what it is to be built for, which decides how weights are rounded.
        on_progress: told how far it is.
        log: told what a person should know and no code needs.

    Raises:
        UsageError: `weights` are no numbers, or the model knows no English.
        CheckpointError: the weights cannot be had.
    """
    if weights not in LIMITS:
        raise UsageError(f"--weights {weights} rounds nothing whose cost could be asked (known: {', '.join(LIMITS)})")
    request = BuildRequest(
        model,
        Path("unwritten.stts"),
        target,
        checkpoint=checkpoint,
        prune=0.0,
        weights=weights,
        tower_weights=FLOAT,
        engines=False,
        ignore_fit=True,
    )
    build = resolve(request, on_progress, log)
    assert build.tokenizer is not None, "weights are from a checkpoint, and it brings a tokenizer"
    ids = text_ids(open_tokenizer(build.tokenizer), build.limits.max_tokens)
    if ids is None:
        raise UsageError(
            f"model {build.config.name} does not know the words of the text that is asked: let its own questions tell "
            f"what rounding costs. Build it with --weights {weights}, with some --keep-float, and with neither, and "
            "compare them by `stts-export eval BUNDLE --data DIR`"
        )
    rounded = build.engine.weights  # not those asked for where the model has others of as many bits already
    item_bytes = ITEM_BYTES[build.engine.precision]
    return sensitivity(
        build.config, build.checkpoint, build.roundings, rounded, LIMITS[rounded], ids, item_bytes, on_progress
    )
