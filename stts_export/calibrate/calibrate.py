"""From a checkpoint and what it is to read, to the scales that its weights are rounded with.

clips and texts -> sequences -> block by block: what its products read -> scales of each fold

One block's weights are in memory at a time, and each block is kept when it is done, so that a calibration that was
interrupted goes on; one that is finished is found again by a digest of all that went into it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from stts_export.calibrate.block import run_block
from stts_export.calibrate.material import Material
from stts_export.calibrate.search import find_scales
from stts_export.calibrate.sequences import embedded_sequences, reading
from stts_export.calibrate.store import State, Store
from stts_export.checkpoint.assembled import default_cache
from stts_export.checkpoint.records import Checkpoint, LazyTensor
from stts_export.graph.capture import weightless_model
from stts_export.models.decoder import Decoder
from stts_export.models.parameters import swapped_parameters
from stts_export.quantise.rounding import Rounding, restored
from stts_export.quantise.scaling import folds_of
from stts_export.recipe.config import ModelConfig
from stts_export.train.forward import Pruning
from stts_runtime.language.tokenizer import Tokenizer
from stts_runtime.progress import Log, OnProgress, no_log, no_progress


_FORMAT = 2  # counted up when other scales are found of the same
CLIPS, STAGE = "calibration clips", "calibrate"
"""What `on_progress` is told of: clips on their way to the first block, then blocks."""
ON_GRID = 1e-5
"""Of a weight's largest value: how far its numbers may be from it where it was rounded to the same grid before."""


def calibrated_scales(
    config: ModelConfig,
    checkpoint: Checkpoint,
    roundings: Mapping[str, Rounding],
    material: Material,
    tokenizer: Tokenizer,
    pruning: Pruning | None = None,
    on_progress: OnProgress = no_progress,
    log: Log = no_log,
    cache: Path | None = None,
) -> dict[str, Tensor]:
    """Return the scales with which the decoder's weights lose least where they are rounded, for `as_scaled`.

    Memory: the vision side in float32 at first; then a block's weights, twice its largest matrix, and of each token
    its hidden state.

    Args:
        config: the model.
        checkpoint: its weights.
        roundings: name -> how that weight is rounded.
        material: what is read.
        tokenizer: the model's.
        pruning: of the clips; None for a dense model.
        on_progress: told how far it is.
        log: told where it goes on from.
        cache: where results are kept, `default_cache()` where not given.

    Raises:
        CheckpointError: a tensor cannot be read, or a layer has no finite scales.
        DiskError: the cache's disk is full or cannot be written; what was done before stays.
    """
    digest = hashlib.sha256(f"{_FORMAT} {torch.__version__} {config!r} {sorted(roundings.items())!r}".encode())
    digest.update(f"{pruning!r} {material.digest} {weights_digest(checkpoint)}".encode())
    store = Store((cache or default_cache()) / "calibration", digest.hexdigest()[:16])
    if (scales := store.scales()) is not None:
        return scales
    model = weightless_model(config).eval()
    with torch.inference_mode():
        state = store.state()
        if state is None:

            def on_share(share: float) -> None:
                on_progress(CLIPS, share)

            made = embedded_sequences(model, checkpoint.tensors, material, tokenizer, pruning, on_share)
            state = State(0, {}, made)
            store.keep(0, {}, made)
        elif state.blocks:
            log(f"calibration goes on from block {state.blocks} of {config.decoder.layers}")
        while state.blocks < config.decoder.layers:
            state = _next_block(model.decoder, checkpoint.tensors, roundings, state)
            store.keep(state.blocks, state.scales, state.sequences)
            on_progress(STAGE, state.blocks / config.decoder.layers)
    store.finish(state.scales)
    return state.scales


def _next_block(
    decoder: Decoder, tensors: Mapping[str, LazyTensor], roundings: Mapping[str, Rounding], state: State
) -> State:
    """Return the state behind the next block."""
    block = decoder.blocks[state.blocks]
    name = f"decoder.blocks.{state.blocks}."
    folds = [fold for fold in folds_of(decoder.config, state.blocks) if any(read in roundings for read in fold.reads)]
    scales = dict(state.scales)
    with swapped_parameters(block, reading(tensors, name)):
        sequences, inputs = run_block(decoder, state.blocks, state.sequences, folds)
        for fold in folds:
            read = [weight for weight in fold.reads if weight in roundings]
            weights = {weight: block.get_parameter(weight.removeprefix(name)) for weight in read}
            scales[fold.name] = find_scales(fold, inputs[fold.name], weights, roundings).scales
    return State(state.blocks + 1, scales, sequences)


def lies_on_grid(config: ModelConfig, checkpoint: Checkpoint, roundings: Mapping[str, Rounding]) -> bool:
    """Return whether rounding changes none of the weights that could be scaled: they were rounded so before."""
    folds = [fold for block in range(config.decoder.layers) for fold in folds_of(config.decoder, block)]
    names = [name for fold in folds for name in fold.reads if name in roundings]
    return bool(names) and all(_is_kept(checkpoint.tensors[name].read(), roundings[name]) for name in names)


def _is_kept(weight: Tensor, rounding: Rounding) -> bool:
    return float((restored(weight, rounding) - weight).abs().max()) <= ON_GRID * float(weight.abs().max())


def weights_digest(checkpoint: Checkpoint) -> str:
    """Return the SHA-256 of a checkpoint's tensors as they are stored, with their names."""
    content = hashlib.sha256()
    for name, tensor in sorted(checkpoint.tensors.items()):
        values = tensor.load().contiguous()
        content.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
        content.update(values.reshape(-1).view(torch.uint8).numpy().data)
    return content.hexdigest()
