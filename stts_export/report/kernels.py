"""Compiled kernels as a table."""

from __future__ import annotations

from stts_export.kernels.compiled import Kernels
from stts_runtime.text_table import Rows


def image_rows(kernels: Kernels) -> Rows:
    """Return a row a cubin: how large it is, which drivers load it, and what its kernels take of a GPU."""
    headers = ("file", "SM", "kernels", "KiB", "driver", "registers", "spilled bytes", "shared KiB")
    rows = tuple(
        (
            image.file,
            str(image.sm),
            str(len(image.entries)),
            f"{image.size / 1024:.0f}",
            f"CUDA {5 + image.elf_abi}",  # 7 is CUDA 12's, 8 CUDA 13's
            str(max(entry.registers for entry in image.entries)),
            str(max(entry.spilled_bytes for entry in image.entries)),
            f"{max(entry.launch.shared_bytes for entry in image.entries) / 1024:.0f}",
        )
        for image in kernels.images
    )
    return Rows(f"kernels compiled by Triton {kernels.triton}", headers, rows)
