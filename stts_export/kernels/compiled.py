"""The attention kernels as files: a cubin an operator and GPU, and what a launch must know.

    OPERATOR-SM.cubin       entries of one operator for one GPU
    triton_launches.inc     how each entry is launched, as the library's source includes it
    kernels.json            all that is known of them, `Kernels`; written behind what it tells of

The same sources give the same bytes on any machine, so what is there already and was made from them is kept.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from stts_export import ops
from stts_export.errors import ExportError
from stts_export.kernels import ptx
from stts_export.kernels.files import write_changed
from stts_export.kernels.variants import LAUNCHES, WARP, Launch, triton_variants, write_launches
from stts_export.ops.kernel_variant import KernelVariant
from stts_runtime.bundle.digest import canonical, digest_of, sha256_of_file
from stts_runtime.bundle.plain import from_plain, to_plain
from stts_runtime.errors import SttsError, UsageError
from stts_runtime.progress import OnProgress, no_progress


SHARED_KIB = {80: 163, 86: 99, 87: 163, 89: 99, 90: 227, 100: 227, 103: 227, 110: 227, 120: 99, 121: 99}
"""Shared memory that a block may have, by SM: of every GPU that kernels are compiled for."""

KERNELS = "kernels.json"
_ABI_PLACE = 8  # in the header of an ELF file


@dataclass(frozen=True)
class Parameter:
    """What cuLaunchKernel is given in one place."""

    name: str
    type: str  # `*fp16` is a pointer to float16, `i32` an int32, `fp32` a float
    bytes_behind: int | None = None  # of scratch memory; Triton adds two such pointers, and null serves for 0 bytes


@dataclass(frozen=True)
class Entry:
    """A kernel in a cubin."""

    launch: Launch
    grid: tuple[str, str, str]  # of programs, in terms of parameters and constants
    parameters: tuple[Parameter, ...]  # in order
    constants: dict[str, int]
    registers: int  # of a thread
    spilled_bytes: int  # of a thread


@dataclass(frozen=True)
class Image:
    """A cubin."""

    file: str
    operator: str
    sm: int
    elf_abi: int  # 7: drivers from CUDA 12 on load it; 8: from CUDA 13 on
    assembler: str  # ptxas' version
    size: int  # bytes
    sha256: str
    made_from: str  # digest of all that its bytes follow from
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Kernels:
    """What kernels.json holds."""

    triton: str
    images: tuple[Image, ...]


def compile_kernels(
    out: Path,
    sms: Sequence[int],
    jobs: int | None = None,
    on_progress: OnProgress = no_progress,
    wheels: Path | None = None,
) -> Kernels:
    """Compile every kernel of Triton's language for GPUs of compute capabilities `sms`, and return what was written.

    Args:
        out: folder to write to.
        sms: of `SHARED_KIB`.
        jobs: processes at once (default: as many as there are cores).
        on_progress: told of each image.
        wheels: folder that Triton is fetched to where it is not installed; without it that is an error.

    Raises:
        UsageError: a GPU is not among those that kernels are compiled for.
        ExportError: Triton cannot be had, or cannot compile them.
    """
    if unknown := sorted(set(sms) - set(SHARED_KIB)):
        raise UsageError(
            f"there are no kernels for SM {', '.join(map(str, unknown))}: they are compiled for "
            f"{', '.join(map(str, SHARED_KIB))}"
        )
    triton = ptx.find_triton(wheels)
    out.mkdir(parents=True, exist_ok=True)
    operators = sorted({variant.operator for variant in triton_variants()})
    wanted = [(operator, sm) for operator in operators for sm in sorted(set(sms))]
    known = {(image.operator, image.sm): image for image in _read(out).images}
    made = {place: known[place] for place in wanted if place in known and _is_good(out, known[place])}
    left = [place for place in wanted if place not in made]
    # Fresh processes: Triton's compiler does not survive a fork.
    with ProcessPoolExecutor(jobs or os.cpu_count(), get_context("spawn"), _import_from, (triton,)) as pool:
        running = {pool.submit(compile_image, out, *place): place for place in left}
        for done, future in enumerate(as_completed(running), start=1):
            made[running[future]] = future.result()
            on_progress("compiling kernels", done / len(left))
            _say(out, made, wanted)  # each time, so that whoever is interrupted goes on from there
    return _say(out, made, wanted)


def compile_image(out: Path, operator: str, sm: int) -> Image:
    """Compile an operator's kernels for one GPU into `out`.

    Raises:
        ExportError: they cannot be compiled, or want more shared memory than the GPU has.
    """
    kernels = [ptx.ptx_of(variant, sm) for variant in _variants_of(operator)]
    for kernel in kernels:
        if kernel.shared_bytes > SHARED_KIB[sm] * 1024:
            raise ExportError(
                f"{kernel.variant.entry} wants {kernel.shared_bytes} bytes of shared memory a block, SM {sm} has "
                f"{SHARED_KIB[sm]} KiB: give it fewer stages in variants.py"
            )
    content, used = ptx.cubin_of(ptx.merged([kernel.text for kernel in kernels]), sm)
    path = out / f"{operator}-{sm}.cubin"
    write_changed(path, content)
    return Image(
        file=path.name,
        operator=operator,
        sm=sm,
        elf_abi=content[_ABI_PLACE],
        assembler=ptx.assembler_version(sm),
        size=len(content),
        sha256=sha256_of_file(path),
        made_from=_made_from(operator, sm),
        entries=tuple(entry_of(kernel, sm, used[kernel.variant.entry]) for kernel in kernels),
    )


def entry_of(kernel: ptx.Ptx, sm: int, usage: ptx.Usage) -> Entry:
    """Return what a launch must know of a kernel compiled for a GPU of compute capability `sm`."""
    variant = kernel.variant
    scratch = [Parameter(name, "*i8", 0) for name in ("global_scratch", "profile_scratch")]
    return Entry(
        launch=Launch(variant.entry, sm, variant.tile, variant.warps * WARP, kernel.shared_bytes),
        grid=variant.grid,
        parameters=(*(Parameter(name, kind) for name, kind in variant.signature.items()), *scratch),
        constants=dict(variant.constants),
        registers=usage.registers,
        spilled_bytes=usage.spilled_bytes,
    )


def _say(out: Path, made: Mapping[tuple[str, int], Image], wanted: Sequence[tuple[str, int]]) -> Kernels:
    """Write what is known of the images that are made."""
    kernels = Kernels(ptx.TRITON, tuple(made[place] for place in wanted if place in made))
    write_launches(out / LAUNCHES, [entry.launch for image in kernels.images for entry in image.entries])
    write_changed(out / KERNELS, canonical(to_plain(kernels)))
    return kernels


def _import_from(folder: Path | None) -> None:
    if folder is not None:
        sys.path.insert(0, str(folder))


def _variants_of(operator: str) -> list[KernelVariant]:
    return [variant for variant in triton_variants() if variant.operator == operator]


def _made_from(operator: str, sm: int) -> str:
    """Return a digest of all that an image's bytes follow from."""
    room = Path(ops.__path__[0])
    sources = room / operator / "kernel.py", room / "flash_attention.py", Path(ptx.__file__)
    variants = [[to_plain(variant), variant.stages_on(sm)] for variant in _variants_of(operator)]
    return digest_of([[sha256_of_file(path) for path in sources], variants, sm, ptx.TRITON])


def _is_good(out: Path, image: Image) -> bool:
    path = out / image.file
    made_from = _made_from(image.operator, image.sm)
    return path.is_file() and sha256_of_file(path) == image.sha256 and image.made_from == made_from


def _read(out: Path) -> Kernels:
    """Return what is known of the kernels in a folder, nothing where that cannot be read: they are compiled again."""
    try:
        return from_plain(Kernels, json.loads((out / KERNELS).read_bytes()), KERNELS)
    except (OSError, ValueError, SttsError):
        return Kernels(ptx.TRITON, ())
