"""A folder as `make plugins` leaves it, whose kernels are the twins that the stand-in for libcuda knows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from stts_export.kernels import ptx
from stts_export.kernels.compiled import KERNELS, Image, Kernels, entry_of
from stts_export.kernels.library import TWIN_SM, write_twin_images
from stts_export.kernels.variants import triton_variants
from stts_runtime.bundle.digest import canonical
from stts_runtime.bundle.plain import to_plain


def write_twin_kernels(folder: Path, shared_bytes: Mapping[str, int] | None = None) -> Path:
    """Write the folder and return it.

    Args:
        folder: is made.
        shared_bytes: operator -> dynamic shared memory that its kernels are said to want; twins need none.
    """
    write_twin_images(folder / "kernels")
    variants = triton_variants()
    images = []
    for operator in sorted({variant.operator for variant in variants}):
        own = [variant for variant in variants if variant.operator == operator]
        wanted = (shared_bytes or {}).get(operator, 0)
        entries = tuple(entry_of(ptx.Ptx(variant, "", wanted), TWIN_SM, ptx.Usage(0, 0)) for variant in own)
        images.append(Image(f"{operator}-{TWIN_SM}.cubin", operator, TWIN_SM, 0, "", 0, "", "", entries))
    (folder / "triton").mkdir()
    (folder / "triton" / KERNELS).write_bytes(canonical(to_plain(Kernels(ptx.TRITON, tuple(images)))))
    return folder
