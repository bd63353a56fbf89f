"""The kernels of Triton's language for `make plugins`: beside the others, as the library takes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stts_export.kernels.compiled import compile_kernels
from stts_export.kernels.cubins import Cubin
from stts_export.kernels.files import write_changed
from stts_export.kernels.variants import LAUNCHES


def write_triton_cubins(sms: Sequence[int], folder: Path, cache: Path) -> list[Cubin]:
    """Return the cubins written to `folder` as `NAME-SM.cubin`, and how they are launched as `triton_launches.inc`.

    Args:
        sms: compute capabilities, 87 for 8.7.
        folder: is there.
        cache: folder where Triton is fetched to, if it is not installed, and where earlier cubins are kept.

    Raises:
        UsageError: there is a GPU among them that nothing is compiled for.
        ExportError: Triton cannot be had, or does not compile them.
    """
    kept = cache / "triton"
    kernels = compile_kernels(kept, sms, wheels=cache)
    for name in (*(image.file for image in kernels.images), LAUNCHES):
        write_changed(folder / name, (kept / name).read_bytes())
    return [Cubin(image.operator, image.sm, f"triton=={kernels.triton}", image.sha256) for image in kernels.images]
