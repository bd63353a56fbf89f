"""From a kernel of Triton's language to PTX, and from the PTX of many to one cubin.

Triton makes a module of each kernel. The library holds one an operator and GPU, in which kernels are entries, so their
PTX is put together before it is assembled: header and shared declarations once, entries under names of their own.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import re
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stts_export.errors import ExportError
from stts_export.kernels.wheel import unpacked_wheel
from stts_export.ops.kernel_variant import KernelVariant


TRITON = "3.9.0"
"""The version whose compiler and PTX are known here; another would make other kernels."""

NEWEST_OF_CUDA_12 = 90
"""Up to this SM the assembler is that of CUDA 12.9, whose cubins drivers of CUDA 12 load; later GPUs need 13."""

_PTX_OF_CUDA_12 = 88
_ENTRY = ".visible .entry"
_USAGE = re.compile(
    r"Compiling entry function '(\w+)'.*?(\d+) bytes spill stores.*?Used (\d+) registers", flags=re.DOTALL
)


@dataclass(frozen=True)
class Ptx:
    """A kernel's PTX under its entry's name."""

    variant: KernelVariant
    text: str
    shared_bytes: int


@dataclass(frozen=True)
class Usage:
    """What the assembler says of an entry."""

    registers: int  # of a thread, 255 at most
    spilled_bytes: int  # of a thread, that found no register


def find_triton(wheels: Path | None = None) -> Path | None:
    """Return the folder that Triton is to be imported from, None where it is installed.

    Args:
        wheels: folder where its wheel is kept, and fetched to, where it is not installed.

    Raises:
        ExportError: it cannot be had, is another version's, or is set to interpret kernels.
    """
    if os.environ.get("TRITON_INTERPRET", "0") not in ("", "0"):
        raise ExportError("TRITON_INTERPRET is set, with which Triton compiles nothing: unset it")
    try:
        version = importlib.metadata.version("triton")
    except importlib.metadata.PackageNotFoundError:
        version = None
    if version == TRITON:
        return None
    advice = f"pip install 'stts-export[kernels]' (triton=={TRITON}, Linux), in an environment of its own if need be"
    if wheels is not None:
        folder = unpacked_wheel(f"triton=={TRITON}", wheels, f"it compiles the attention kernels; {advice}")
        for tool in (folder / "triton/backends/nvidia/bin").iterdir():
            tool.chmod(0o755)  # which is lost as a wheel is unpacked
        return folder
    if version is None:
        raise ExportError(f"the attention kernels are compiled by Triton, which is missing here: {advice}")
    raise ExportError(f"Triton {version} is installed, and kernels are compiled by {TRITON}: {advice}")


def ptx_of(variant: KernelVariant, sm: int) -> Ptx:
    """Return a kernel's PTX for a GPU of compute capability `sm`.

    Raises:
        ExportError: Triton cannot compile it, or it wants memory that the library does not give.
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    module = importlib.import_module(f"stts_export.ops.{variant.operator}.kernel")
    function = getattr(module, variant.function)
    names = function.arg_names
    signature = {name: variant.signature.get(name, "constexpr") for name in names}
    aligned = {(names.index(name),): [["tt.divisibility", 16]] for name in variant.aligned}
    options = {"num_warps": variant.warps, "num_stages": variant.stages_on(sm), "enable_fp_fusion": True}
    if sm <= NEWEST_OF_CUDA_12:
        options["ptx_version"] = _PTX_OF_CUDA_12
    with tempfile.TemporaryDirectory() as folder, triton.knobs.cache.scope(), triton.knobs.compilation.scope():
        triton.knobs.cache.dir = folder
        triton.knobs.compilation.disable_line_info = True  # which holds paths of this machine
        try:
            source = ASTSource(function, signature, dict(variant.constants), aligned)
            compiled = triton.compile(source, target=GPUTarget("cuda", sm, 32), options=options)
        except Exception as error:  # whatever a pass of the compiler raises
            raise ExportError(f"Triton cannot compile {variant.entry} for SM {sm}: {error}") from error
    metadata = compiled.metadata
    scratch = metadata.global_scratch_size + metadata.profile_scratch_size
    if scratch or metadata.num_warps != variant.warps:
        raise ExportError(
            f"{variant.entry} for SM {sm} wants {scratch} bytes of scratch memory and {metadata.num_warps} warps, and "
            f"the library launches it with none and {variant.warps}"
        )
    text = re.sub(rf"\b{variant.function}(?=\(|_param_\d)", variant.entry, compiled.asm["ptx"])
    return Ptx(variant, text, metadata.shared)


def merged(modules: Sequence[str]) -> str:
    """Return one PTX module of the entries of several, which are of one GPU and PTX version.

    Raises:
        ExportError: their headers differ, or one declares what is not shared memory or a constant of one name.
    """
    headers: set[tuple[str, ...]] = set()
    declared: dict[str, str] = {}
    entries = []
    for module in modules:
        start = module.index(_ENTRY)
        lines = [line for line in module[:start].splitlines() if line and not line.lstrip().startswith("//")]
        headers.add(tuple(line for line in lines if line.startswith((".version", ".target", ".address_size"))))
        for line in lines[3:]:
            name = line.split("[")[0]
            if not line.startswith((".extern .shared", ".global")) or declared.setdefault(name, line) != line:
                raise ExportError(
                    f"kernels cannot share one module, for they declare {line!r} and {declared.get(name)!r}"
                )
        entries.append(module[start:])
    if len(headers) != 1:
        raise ExportError(f"kernels cannot share one module, for their headers differ: {sorted(headers)}")
    return "\n".join((*headers.pop(), *declared.values(), *entries))


def cubin_of(ptx: str, sm: int) -> tuple[bytes, dict[str, Usage]]:
    """Return a module assembled for a GPU, and what each entry uses.

    Raises:
        ExportError: the assembler refuses it.
    """
    from triton.backends.nvidia.compiler import sm_arch_from_capability

    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "kernels.ptx").write_text(ptx)
        command = [_assembler(sm), "-v", f"--gpu-name={sm_arch_from_capability(sm)}"]
        if sm > NEWEST_OF_CUDA_12:
            command.append("--regAllocOptLevel=2")  # Triton has it so, for a flaw of 13.x
        done = subprocess.run(
            [*command, "kernels.ptx", "-o", "kernels.cubin"], cwd=folder, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise ExportError(f"ptxas refuses the kernels for SM {sm}: {done.stderr.strip()[-2000:]}")
        used = {name: Usage(int(registers), int(spilled)) for name, spilled, registers in _USAGE.findall(done.stderr)}
        return Path(folder, "kernels.cubin").read_bytes(), used


def assembler_version(sm: int) -> str:
    """Return the version of the assembler that makes cubins for a GPU: `12.9.86`."""
    said = subprocess.run([_assembler(sm), "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"V(\d+\.\d+\.\d+)", said)
    return found[1] if found else said.strip()


def _assembler(sm: int) -> str:
    from triton import knobs

    return (knobs.nvidia.ptxas if sm <= NEWEST_OF_CUDA_12 else knobs.nvidia.ptxas_blackwell).path
