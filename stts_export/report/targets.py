"""Targets as tables."""

from __future__ import annotations

from collections.abc import Sequence

from stts_runtime.bundle.target import Target
from stts_runtime.device.jetpack import JETPACKS
from stts_runtime.text_table import NONE, Rows


PEAKS = ("float32", "float16", "bfloat16", "int8", "float8", "float4")


def targets_rows(targets: Sequence[Target]) -> Rows:
    """Return a row a target, with the default backend, precision and number of frames."""
    headers = ("target", "SM", "memory GiB", "GB/s", "FP16 TFLOP/s", "backend", "precision", "T", "software")
    rows = tuple(
        (
            target.name,
            ", ".join(map(str, target.compute_capabilities)) or NONE,
            f"{_number(target.memory_gib)}{' shared' if target.shared_memory and target.memory_gib else ''}",
            _number(target.bandwidth_gb_per_s),
            _number(target.peak_tflops.float16),
            target.backends[0],
            target.precisions[0],
            str(target.max_frames),
            f"JetPack {target.jetpacks[0]} to {target.jetpacks[-1]}" if target.jetpacks else "pip",
        )
        for target in targets
    )
    return Rows("", headers, rows)


def target_facts(target: Target) -> list[tuple[str, str]]:
    """Return all that is known of a target but its software, as names and values."""
    peaks = [f"{kind} {value:g}" for kind in PEAKS if (value := getattr(target.peak_tflops, kind)) is not None]
    shared = ", shared with the CPU" if target.shared_memory else ""
    return [
        ("target", target.name),
        ("device", target.title),
        ("compute capabilities", ", ".join(map(str, target.compute_capabilities)) or "none: no GPU"),
        ("memory", f"{_number(target.memory_gib)} GiB{shared}" if target.memory_gib else "differs"),
        ("bandwidth", f"{_number(target.bandwidth_gb_per_s)} GB/s" if target.bandwidth_gb_per_s else "differs"),
        ("dense peaks, TFLOP/s", ", ".join(peaks) or "differ"),
        ("backends", _default_first(target.backends)),
        ("precisions", _default_first(target.precisions)),
        ("most frames", f"{target.max_frames} (default)"),
        ("most tokens", f"{target.max_tokens} (default)" if target.max_tokens else "follows from frames and model"),
        ("software", _software(target)),
        ("source", target.source),
    ]


def software_rows(target: Target) -> Rows:
    """Return a row for each JetPack a target runs; no row where software comes by pip."""
    headers = ("jetpack", "ubuntu", "python", "cuda", "tensorrt", "tensorrt_extra")
    rows = tuple(
        (jetpack.name, jetpack.ubuntu, jetpack.python, jetpack.cuda, jetpack.tensorrt, jetpack.tensorrt_extra or NONE)
        for jetpack in JETPACKS
        if jetpack.name in target.jetpacks
    )
    return Rows("", headers, rows)


def _software(target: Target) -> str:
    return f"JetPack {', '.join(target.jetpacks)}" if target.jetpacks else "pip"


def _default_first(names: Sequence[str]) -> str:
    return ", ".join((f"{names[0]} (default)", *names[1:]))


def _number(value: float | None) -> str:
    return NONE if value is None else f"{value:g}"
