"""Run our models on the recorded cases, and compare tensor by tensor.

Everything is derived from the case's `config.json`. Keep sets, bins and slots must be equal; values and gradients
close, relative to the largest magnitude of the tensor.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stts_export.conformance.case import ConformanceCase, case_folders, model_from_case, read_case
from stts_export.conformance.tolerances import GRADIENT_TOLERANCE, VALUE_TOLERANCE
from stts_export.models.vision import VisionResult, run_vision
from stts_runtime.bundle.manifest import Grid
from stts_runtime.clip.frames import patches_from_frames
from stts_runtime.errors import SttsError, VerificationError
from stts_runtime.vision.plan import EMPTY, FfdPlan, keep_patches


HIDDEN_STRIDE = 7
"""Recorded block outputs hold patches 0, 7, 14, ..."""


@dataclass(frozen=True)
class TensorComparison:
    """One recorded tensor held against ours."""

    name: str  # as recorded
    # largest absolute difference over the recorded tensor's largest magnitude (over 1 where that is zero); infinite
    # where shapes differ
    error: float
    allowed: float  # largest error that passes; 0 where equality is asked
    ok: bool  # whether it passes


@dataclass(frozen=True)
class ConformanceResult:
    """One case."""

    name: str  # its folder's name
    comparisons: tuple[TensorComparison, ...]  # one a recorded tensor
    ok: bool  # whether all hold
    message: str  # why it could not run, which tensor fails first, or what else is worth saying; else empty


def run_cases(directory: Path) -> Iterator[ConformanceResult]:
    """Return the results of all cases at or under `directory`, one by one as they are computed.

    A case that cannot be read gives a failed result without comparisons, and the others still run.

    Raises:
        UsageError: at once, where there is no case.
    """
    return (_result_or_error(folder) for folder in case_folders(directory))


def _result_or_error(folder: Path) -> ConformanceResult:
    try:
        return run_case(folder)
    except SttsError as e:
        return ConformanceResult(folder.name, (), False, str(e))


def run_case(folder: Path) -> ConformanceResult:
    """Return how our models do on the case in `folder`.

    Raises:
        SttsError: the case is malformed; the message names the file.
    """
    case = read_case(folder)
    model, ours = model_from_case(case)
    gradients = {name: name.removeprefix("grad.") for name in case.expected if name.startswith("grad.")}
    _check_expected(case, gradients, ours)
    hidden = [int(name.removeprefix("hidden_")) for name in case.expected if name.startswith("hidden_")]

    parameters = dict(model.named_parameters())
    for parameter in parameters.values():
        parameter.requires_grad_(False)
    wanted = [parameters[ours[weight]].requires_grad_() for weight in gradients.values()]
    result = run_vision(
        model,
        torch.from_numpy(patches_from_frames(case.frames, case.grid)),
        case.videos,
        case.prune_fraction,
        keep_hidden=hidden,
        aux_coefficient=case.aux_coefficient,
    )
    got = _discrete(result, case.grid)
    found = [_compare(name, case.expected[name], got[name], 0.0) for name in got]
    values = _values(result)
    found += [_compare(name, case.expected[name], values[name], VALUE_TOLERANCE) for name in values]
    for name, gradient in zip(gradients, _gradients(result, case.expected["probe"], wanted), strict=True):
        found.append(_compare(name, case.expected[name], gradient, GRADIENT_TOLERANCE))
    ok = all(one.ok for one in found)
    return ConformanceResult(folder.name, tuple(found), ok, _unused(case, ours) if ok else _first_failure(found))


def _check_expected(case: ConformanceCase, gradients: dict[str, str], ours: dict[str, str]) -> None:
    path = case.folder / "expected.safetensors"
    blocks = dict.fromkeys((case.tower.score_after, case.tower.biased_block, *case.tower.taps))
    required = [*_DISCRETE, *_VALUES, "probe", *(f"hidden_{block}" for block in blocks)]
    missing = [name for name in required if name not in case.expected]
    if missing or not gradients:
        raise VerificationError(f"{path}: no tensor {', '.join(missing or ['grad.*'])}; record the case again")
    recorded = {f"hidden_{block}" for block in range(case.tower.blocks)} | set(required) | set(gradients)
    unknown = [name for name in case.expected if name not in recorded]
    unknown += [name for name, weight in gradients.items() if weight not in ours]
    if unknown:
        raise VerificationError(f"{path}: nothing to hold {', '.join(unknown)} against: not in the case's format")


_DISCRETE = ("keep_groups", "keep_patches", "packed_bins", "new_locs", "refill_patches", "segment_mask_rows")
_VALUES = ("scores", "soft_bias", "image_features", "aux_loss")


def _discrete(result: VisionResult, grid: Grid) -> dict[str, Tensor]:
    """Return what must be equal, by recorded name."""
    plan = result.plan
    assert isinstance(plan, FfdPlan), "the authors pack in bins"
    groups = result.keep.numpy()
    kept = keep_patches(groups, grid)
    bins, slots = np.nonzero(plan.segments != EMPTY)
    patches = plan.gather[bins, slots]
    locations = np.zeros((kept.size, 2), dtype=np.int32)
    locations[patches] = np.stack([bins, slots], axis=1)
    # A frame lies in one bin, so the patches its slots see are all patches of that frame that run.
    running = np.bincount(patches // grid.patches, minlength=len(kept))
    seen = np.where(plan.segments == EMPTY, 0, running[plan.segments])
    found = {
        "keep_groups": groups,
        "keep_patches": kept,
        "packed_bins": np.array([len(plan.gather)]),
        "new_locs": locations.reshape(*kept.shape, 2),
        "refill_patches": plan.refilled[:, None] & ~kept,
        "segment_mask_rows": seen,
    }
    return {name: torch.from_numpy(np.ascontiguousarray(found[name])) for name in _DISCRETE}


def _values(result: VisionResult) -> dict[str, Tensor]:
    """Return what must be close, by recorded name."""
    values = {"scores": result.scores, "soft_bias": result.soft_bias}
    values |= {f"hidden_{block}": hidden[:, ::HIDDEN_STRIDE] for block, hidden in sorted(result.hidden.items())}
    return values | {"image_features": result.features, "aux_loss": result.aux_loss.reshape(1)}


def _gradients(result: VisionResult, probe: Tensor, parameters: list[Tensor]) -> list[Tensor]:
    """Return the gradient of sum(features * probe) / K + auxiliary loss for each parameter."""
    if probe.shape != result.features.shape:
        # Another number of groups was kept: there is no gradient to compare, and an empty tensor fits no shape.
        return [torch.empty(0) for _ in parameters]
    loss = (result.features * probe).sum() / len(probe) + result.aux_loss
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    # A weight that the loss does not reach (the scorer's, with a single frame) has gradient zero.
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]


def _compare(name: str, expected: Tensor, got: Tensor, allowed: float) -> TensorComparison:
    if expected.shape != got.shape or not expected.numel():
        return TensorComparison(name, float("inf"), allowed, False)
    reference = expected.double()
    error = (got.detach().double() - reference).abs().max() / (reference.abs().max() or 1.0)
    return TensorComparison(name, float(error), allowed, bool(error <= allowed))


def _unused(case: ConformanceCase, ours: dict[str, str]) -> str:
    unused = [name for name in case.weights if name not in ours]
    return f"weights that nothing reads: {', '.join(unused)}" if unused else ""


def _first_failure(found: list[TensorComparison]) -> str:
    first = next(one for one in found if not one.ok)
    return f"{first.name} departs first: error {first.error:.3g}, allowed {first.allowed:g}"
