"""Which weights a target can take, and what would do where it cannot."""

from __future__ import annotations

from stts_export.errors import UsageError
from stts_export.quantise.choice import CHOICES
from stts_runtime.bundle.backend import ONNXRUNTIME, TENSORRT
from stts_runtime.bundle.manifest import FLOAT
from stts_runtime.bundle.target import Target
from stts_runtime.bundle.versions import release_of
from stts_runtime.device.jetpack import JETPACKS
from stts_runtime.trt.dialect import LEAST_FOR_WEIGHTS


def check_weights(weights: str, target: Target, backend: str, precision: str) -> None:
    """Raise UsageError where a target's engine cannot have such weights.

    Args:
        weights: one of `WEIGHTS`.
        target: what is built for.
        backend: which of its engines.
        precision: that its graphs compute in.
    """
    if weights == FLOAT:
        return
    if weights not in CHOICES[backend]:
        raise UsageError(
            f"--weights {weights} is not for {backend}, which does not compute with it: take "
            f"{' or '.join(CHOICES[backend])}, or a --target whose engine has it"
        )
    if backend == ONNXRUNTIME.name:
        if target.compute_capabilities:
            raise UsageError(
                f"--weights {weights} with onnxruntime is for a CPU, and target {target.name} is a GPU: take --backend "
                "tensorrt, --target cpu, or leave it out"
            )
        return
    if precision == "float32":
        raise UsageError(
            f"--weights {weights} is for products in half precision, and the build is in float32: take --precision "
            "float16 or bfloat16, or leave one of them out"
        )
    _, least = LEAST_FOR_WEIGHTS[weights]
    old = [str(sm) for sm in target.compute_capabilities if sm < least]
    if old:
        fitting = [one for one in CHOICES[backend] if LEAST_FOR_WEIGHTS[one][1] <= min(target.compute_capabilities)]
        raise UsageError(
            f"--weights {weights} needs GPUs from SM {least} on, and target {target.name} has SM {', '.join(old)}: "
            f"take --weights {' or '.join(fitting)}, or a target without those"
        )
    if backend == TENSORRT.name and target.jetpacks and len(_too_old(weights, target)) == len(target.jetpacks):
        raise UsageError(
            f"--weights {weights}: {', '.join(_too_old(weights, target))} cannot read it, and target {target.name} has "
            "nothing newer: leave it out"
        )


def check_tower_weights(weights: str, target: Target, backend: str) -> None:
    """Raise UsageError where a target's engine cannot have such weights in the vision graphs."""
    if weights != FLOAT and (backend != ONNXRUNTIME.name or target.compute_capabilities):
        raise UsageError(
            f"--tower-weights {weights} is for onnxruntime on a CPU, and the build is for {backend} on target "
            f"{target.name}: leave it out, or take --target cpu"
        )


def takes_weights(weights: str, target: Target, backend: str, precision: str) -> bool:
    """Tell whether a target's engine can have such weights, see `check_weights`."""
    try:
        check_weights(weights, target, backend, precision)
    except UsageError:
        return False
    return True


def weights_notes(weights: str, target: Target, backend: str) -> list[str]:
    """Return what a user of a bundle with such weights should know."""
    if weights == FLOAT or backend != TENSORRT.name:
        return []
    release = ".".join(map(str, LEAST_FOR_WEIGHTS[weights][0]))
    old = ", ".join(_too_old(weights, target))
    return [f"its weights in {weights} need TensorRT {release} or newer: {old} cannot run it"] if old else []


def _too_old(weights: str, target: Target) -> list[str]:
    """Return the target's JetPacks whose TensorRT cannot read such weights."""
    old = (one for one in JETPACKS if one.name in target.jetpacks)
    return [
        f"JetPack {one.name} with TensorRT {one.tensorrt}"
        for one in old
        if release_of(one.tensorrt) < LEAST_FOR_WEIGHTS[weights][0]
    ]
