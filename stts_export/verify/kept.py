"""Whether a bundle whose tower is rounded keeps the groups that the model in floats keeps.

A group is kept for its rank among all others, so that errors of scores say little by themselves. What is asked is asked
as of a user's clip: cut at the fraction itself, wherever scores lie, and not where they leave a gap.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from stts_export.checkpoint.records import Checkpoint
from stts_export.graph.capture import weightless_model
from stts_export.parts import parts_of
from stts_export.recipe.config import ModelConfig
from stts_export.verify.clip import SEED, synthetic_clip
from stts_export.verify.torch_part import TorchEngine, loaded_weights, torch_manifest
from stts_runtime.bundle.open import Bundle
from stts_runtime.errors import SttsError
from stts_runtime.session import Session
from stts_runtime.timings import Timings
from stts_runtime.verify.compare import failure
from stts_runtime.verify.report import FAILED, PASSED, CaseResult, Comparison
from stts_runtime.verify.tolerances import KEPT
from stts_runtime.vision.plan import select_groups
from stts_runtime.vision.run import score_frames


PART, CASE = "vision_score", "groups that stay"
FRAMES = 16
FRACTIONS = (0.25, 0.5, 0.75)
"""Shares of groups that are dropped: any may be asked for, whatever a bundle's default is."""
WAY_OUT = "leave the blocks that scores are made of in floats: --keep-float"


def scored_blocks(config: ModelConfig) -> tuple[str, ...]:
    """Return the patterns of the weights of all tower blocks that scores are made of, as `--keep-float` takes them."""
    return tuple(f"vision_tower.blocks.{place}.*" for place in range(config.tower.score_after + 1))


def rounds_scores(config: ModelConfig, rounded: Iterable[str]) -> bool:
    """Tell whether scores are made by any of the `rounded` weights."""
    blocks = tuple(pattern.removesuffix("*") for pattern in scored_blocks(config))
    return config.scorer.kind != "none" and any(name.startswith(blocks) for name in rounded)


def compare_kept(bundle: Bundle, config: ModelConfig, checkpoint: Checkpoint) -> CaseResult:
    """Return how a pruned bundle's keep sets overlap with those of the model in floats.

    Memory: the weights of vision_score in float32, and what its forward takes for a chunk of frames.

    Args:
        bundle: the bundle, as it computes.
        config: its model, with a scorer.
        checkpoint: the model's weights, in floats.

    Raises:
        CheckpointError: a tensor cannot be read.
    """
    manifest = bundle.manifest
    frames = synthetic_clip(config.grid.image_size, min(FRAMES, manifest.limits.max_frames), SEED + 1)
    expected = float_scores(bundle, config, checkpoint, frames)
    try:
        with Session(bundle) as session:
            _, got = score_frames(session.engine(PART), frames, manifest, Timings())
    except SttsError as error:
        return CaseResult(PART, CASE, (failure("running it", str(error)),))
    if not np.isfinite(got).all():
        return CaseResult(PART, CASE, (failure("scores", "some are NaN or infinite"),))
    return CaseResult(PART, CASE, tuple(compared(expected, got, share, config) for share in FRACTIONS))


def float_scores(
    bundle: Bundle, config: ModelConfig, checkpoint: Checkpoint, frames: NDArray[np.uint8]
) -> NDArray[np.float32]:
    """Return the scores float32 [T, G] that the torch model gives `frames`, in a bundle's chunks."""
    manifest = bundle.manifest
    parts = parts_of(weightless_model(config), config, manifest.limits, manifest.pruning.packing)
    part = next(part for part in parts if part.spec.name == PART)
    with loaded_weights(part, checkpoint):
        _, scores = score_frames(TorchEngine(part), frames, torch_manifest(manifest, [part]), Timings())
    return scores


def compared(
    expected: NDArray[np.float32], got: NDArray[np.float32], fraction: float, config: ModelConfig
) -> Comparison:
    """Return the overlap of what two scores [T, G] keep: groups that both keep, over those that either does.

    The first frame is left out, all of which stays.
    """
    own, other = (select_groups(scores, fraction)[1:] for scores in (expected, got))
    either = int((own | other).sum())
    overlap = int((own & other).sum()) / either if either else 1.0  # a single frame stays whole
    told = f"{overlap:.1%} of the groups that either keeps are kept by both, wanted {KEPT:.1%}"
    passes = overlap >= KEPT
    way = "" if passes else f"; {WAY_OUT} {' '.join(scored_blocks(config))}"
    return Comparison(
        f"keep set, {fraction:.0%} dropped", PASSED if passes else FAILED, overlap=overlap, message=told + way
    )
