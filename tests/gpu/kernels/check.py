"""One operator's kernels: held against the truth at models' sizes, then timed."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from kernels.cases import OPERATORS, Operator
from kernels.driver import CudaError, Gpu, NotCheckableError, in_turn
from kernels.images import Images
from kernels.sizes import read_sizes
from kernels.workloads import WORKLOADS
from stts_export.ops.case import OpCase


COLD_BYTES = 256 << 20  # several times the cache of any GPU: a launch that is timed finds nothing of the one before
MOST_COPIES = 32


def check_operator(name: str, folder: Path, check_frames: int, frames: Sequence[int]) -> dict[str, Any]:
    """Return what was found, as far as it went: `checks`, `times`, and an `error` or why it is `not_checkable`.

    Args:
        name: the operator's folder.
        folder: what pack.py packed of kernels.
        check_frames: frames of a clip that is held against the truth.
        frames: lengths of clips that are timed.
    """
    found: dict[str, Any] = {"checks": [], "times": []}
    try:
        gpu = Gpu()
        found["gpu"] = {"name": gpu.name, "sm": gpu.sm}
        images, operator = Images(folder, name, gpu), OPERATORS[name]
        found["kernels_for"] = images.sm
        sizes = read_sizes(folder)
        for size in sizes:
            for case in operator.cases(size, check_frames):
                for kind in operator.kinds:
                    with gpu.scope():
                        found["checks"].append({"model": size.name, **check_case(operator, case, kind, images)})
        for size in sizes:
            for what, workload in WORKLOADS[name].items():
                for length in frames:
                    with gpu.scope():
                        made = workload(size, length, gpu)
                        copies = min(MOST_COPIES, ceil(COLD_BYTES / made.nbytes))
                        others = [workload(size, length, gpu) for _ in range(copies - 1)]
                        (ms,) = gpu.medians([in_turn([one.launcher(images) for one in (made, *others)])])
                    measured = {"model": size.name, "what": what, "frames": length, "ms": ms}
                    found["times"].append({**measured, "bytes": made.nbytes, "flops": made.flops})
    except NotCheckableError as reason:
        found["not_checkable"] = str(reason)
    except CudaError as error:
        found["error"] = str(error)
    if wrong := [one for one in found["checks"] if not one["ok"]]:
        first = f"{wrong[0]['model']}, {wrong[0]['case']}, {wrong[0]['kind']}"
        found.setdefault("error", f"{len(wrong)} of {len(found['checks'])} results are wrong, the first of {first}")
    return found


def check_case(operator: Operator, case: OpCase, kind: str, images: Images) -> dict[str, Any]:
    """Return how far a launch is from the truth, launched twice."""
    gpu = images.gpu
    inputs = []
    for place, array in enumerate(case.inputs):
        is_float = array.dtype == np.float32 and place not in operator.stays
        inputs.append(gpu.put(array, kind if is_float else array.dtype.name))
    kinds = [kind if one == "like" else one for one in operator.outputs]
    runs = []
    for _ in range(2):
        outputs = [gpu.empty(truth.shape, one) for truth, one in zip(case.outputs, kinds, strict=True)]
        operator.launch(images, inputs, outputs, **case.attributes)()
        runs.append([gpu.get(output) for output in outputs])
    got = [one.astype(np.float64) for one in runs[0]]
    wanted = [truth.astype(np.float64) for truth in case.outputs]
    # What is no number is as far off as can be.
    error = max(float(np.nan_to_num(abs(a - b), nan=np.inf).max(initial=0)) for a, b in zip(got, wanted, strict=True))
    allowed = 0.0 if operator.tolerances is None else operator.tolerances[kind]
    repeats = all(first.tobytes() == second.tobytes() for first, second in zip(*runs, strict=True))
    return {
        "case": case.name,
        "kind": kind,
        "numbers": sum(truth.size for truth in case.outputs),
        "error": error if np.isfinite(error) else None,
        "allowed": allowed,
        "repeats": repeats,
        "ok": error <= allowed and repeats,
    }
