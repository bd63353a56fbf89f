"""Kernels beside what torch has for the same work, taking turns in one process; and a pruned tower made of both.

Torch's own way is the fastest of those that this torch has, each of which is told.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from kernels import tower, workloads
from kernels.driver import CudaError, DeviceArray, Gpu, NotCheckableError
from kernels.images import Images
from kernels.sizes import Sizes, read_sizes
from stts_export.ops.attention_truth import TOLERANCES


Way = Callable[[], Any]

APART = 2 * TOLERANCES[workloads.PRECISION]
"""Largest difference of two results that both are within the tolerance of the truth."""


def beside_torch(what: str, folder: Path, frames: Sequence[int], device: str) -> dict[str, Any]:
    """Return what was found, as far as it went: `rows`, and an `error` or a reason why it is `not_checkable`.

    Args:
        what: `ragged_attention`, `vision_prefix_attention` or `tower`.
        folder: what pack.py packed of kernels.
        frames: lengths of clips.
        device: torch's, `cuda`; `cpu` serves where the driver is a stand-in whose memory is the host's.
    """
    found: dict[str, Any] = {"rows": []}
    try:
        gpu = Gpu()
        found["gpu"] = {"name": gpu.name, "sm": gpu.sm}
        torch = usable_torch(device)
        found["torch"] = torch.__version__
        compare = tower.compare if what == "tower" else partial(compare_attention, what)
        for size in read_sizes(folder):
            for length in frames:
                with gpu.scope(), torch.inference_mode():
                    row = compare(size, length, gpu, folder, TorchRoom(torch, device))
                    found["rows"].append({"model": size.name, "frames": length, **row})
                    if not row.get("agrees", True):
                        found["error"] = f"{size.name}, {length} frames: it is not what torch computes"
    except NotCheckableError as reason:
        found["not_checkable"] = str(reason)
    except (CudaError, RuntimeError) as error:  # torch's, of which a lack of memory is one
        found["error"] = str(error)
    return found


def usable_torch(device: str) -> Any:
    """Return torch.

    Raises:
        NotCheckableError: it is missing, or sees no GPU.
    """
    try:
        import torch
    except ImportError as error:
        raise NotCheckableError(f"torch is not installed: {error}") from error
    if device == "cuda" and not torch.cuda.is_available():
        raise NotCheckableError(f"torch {torch.__version__} sees no GPU")
    return torch


class TorchRoom:
    """Where torch has its tensors; a kernel is given their addresses."""

    def __init__(self, torch: Any, device: str) -> None:
        self.torch, self.device = torch, device
        self._tensors: dict[int, Any] = {}

    def noise(self, shape: Sequence[int], kind: str) -> DeviceArray:
        return self.array(self.torch.randn(*shape, device=self.device, dtype=getattr(self.torch, kind)))

    def empty(self, shape: Sequence[int], kind: str) -> DeviceArray:
        tensor = self.torch.empty(*shape, device=self.device, dtype=getattr(self.torch, kind))
        return self.array(tensor.fill_(float("nan")) if tensor.is_floating_point() else tensor)

    def put(self, array: np.ndarray, kind: str) -> DeviceArray:
        return self.array(self.torch.from_numpy(np.ascontiguousarray(array)).to(self.device, getattr(self.torch, kind)))

    def array(self, tensor: Any) -> DeviceArray:
        """Return the array that a tensor is."""
        self._tensors[tensor.data_ptr()] = tensor
        return DeviceArray(tensor.data_ptr(), tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))

    def tensor(self, array: DeviceArray) -> Any:
        """Return the tensor that an array is."""
        return self._tensors[array.pointer]


def compare_attention(what: str, size: Sizes, frames: int, gpu: Gpu, folder: Path, room: TorchRoom) -> dict[str, Any]:
    """Return milliseconds of our kernel and of torch's ways, and how far the outputs are apart."""
    workload = getattr(workloads, what)(size, frames, room)
    launch = workload.launcher(Images(folder, what, gpu))
    launch()
    gpu.synchronize()
    ours = room.tensor(workload.outputs[0]).float()
    ways, missing = working(WAYS[what](room, workload))
    if not ways:
        raise NotCheckableError(f"this torch has nothing to compare {what} with: {'; '.join(missing)}")
    apart = {name: float((way().reshape(ours.shape).float() - ours).abs().max()) for name, way in ways.items()}
    own, *others = gpu.medians([launch, *ways.values()])
    by_name = dict(zip(ways, others, strict=True))
    best = min(by_name, key=by_name.__getitem__)
    return {
        "ms": own,
        "ways": by_name,
        "best": best,
        "ratio": by_name[best] / own,
        "apart": apart[best] if math.isfinite(apart[best]) else None,
        "agrees": apart[best] <= APART,
        "missing": missing,
        "flops": workload.flops,
    }


def working(ways: dict[str, Callable[[], Way]]) -> tuple[dict[str, Way], list[str]]:
    """Return the ways that run here by name, and why others do not."""
    found, missing = {}, []
    for name, make in ways.items():
        try:
            found[name] = make()
            found[name]()
        except (ImportError, RuntimeError, TypeError, NotImplementedError, AssertionError) as error:
            found.pop(name, None)
            missing.append(f"{name}: {str(error).splitlines()[0][:200] if str(error) else type(error).__name__}")
    return found, missing


def ragged_ways(room: TorchRoom, workload: workloads.Workload) -> dict[str, Callable[[], Way]]:
    """Return torch's ways to attend within frames of any lengths."""
    torch, heads = room.torch, workload.attributes["heads"]
    query, key, value, bounds, positions = map(room.tensor, workload.inputs)
    rows = [one.unflatten(1, (heads, -1)) for one in (query, key, value)]
    narrow, longest = bounds.int(), len(positions)

    def flash_attn() -> Way:
        from flash_attn import flash_attn_varlen_func

        return lambda: flash_attn_varlen_func(*rows, narrow, narrow, longest, longest)

    def varlen() -> Way:
        from torch.nn.attention.varlen import varlen_attn

        return lambda: varlen_attn(*rows, narrow, narrow, longest, longest)

    def nested() -> Way:
        by_frame = [
            torch.nested.nested_tensor_from_jagged(one, bounds, max_seqlen=longest).transpose(1, 2) for one in rows
        ]
        return lambda: torch.nn.functional.scaled_dot_product_attention(*by_frame).transpose(1, 2).values()

    return {"flash_attn varlen": flash_attn, "torch varlen_attn": varlen, "SDPA on nested tensors": nested}


def prefix_ways(room: TorchRoom, workload: workloads.Workload) -> dict[str, Callable[[], Way]]:
    """Return torch's ways to attend a prompt by a bias, which is made beforehand."""
    torch = room.torch
    query, key, value, positions, key_positions, flags, *_ = map(room.tensor, workload.inputs)
    seen = key_positions[None] <= positions[:, None]
    seen |= flags[len(flags) - len(positions) :, None] & flags[None]
    bias = torch.zeros(seen.shape, dtype=query.dtype, device=query.device).masked_fill_(~seen, float("-inf"))
    sharing = query.shape[1] // key.shape[1]
    attend = partial(torch.nn.functional.scaled_dot_product_attention, query, attn_mask=bias[None, None])

    def repeated() -> Way:
        keys, values = (one.repeat_interleave(sharing, 1) for one in (key, value))
        return lambda: attend(keys, values)

    def grouped() -> Way:
        return lambda: attend(key, value, enable_gqa=True)

    return {"SDPA with bias, keys repeated beforehand": repeated, "SDPA with bias, grouped heads": grouped}


WAYS = {"ragged_attention": ragged_ways, "vision_prefix_attention": prefix_ways}
