"""The kernels of all operators for each compute capability, kept by the digest of all that they are made of."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from stts_export.kernels.files import write_changed
from stts_export.kernels.nvrtc import compiled, compiler_wheel, fetched_compiler


_CHECKOUT = Path(__file__).parents[2]
_OPS = _CHECKOUT / "stts_export/ops"
_LANGUAGE = _CHECKOUT / "runtimes/tensorrt/device"
_WORKERS = 2


@dataclass(frozen=True)
class Cubin:
    """A file of kernels for one compute capability."""

    name: str  # what a plugin asks for: the operator's folder
    sm: int  # 87 for 8.7
    compiler: str  # `nvidia-cuda-nvrtc-cu12==12.6.85`
    sha256: str


def write_cubins(sms: Sequence[int], folder: Path, cache: Path) -> list[Cubin]:
    """Return the cubins written to `folder` as `NAME-SM.cubin`; those for other GPUs that lie there go.

    Args:
        sms: compute capabilities, 87 for 8.7.
        folder: is made.
        cache: folder where compilers and earlier cubins are kept.

    Raises:
        ExportError: a compiler cannot be had, or a source does not compile.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [(source, sm) for source in sorted(_OPS.glob("*/kernel.cu")) for sm in sorted(sms)]
    for sm in sms:  # before there are several that want one
        fetched_compiler(sm, cache)
    with ThreadPoolExecutor(_WORKERS) as pool:  # the compiler lets go of Python's lock
        contents = list(pool.map(lambda one: _cubin(one[0], one[1], cache), wanted))
    cubins = []
    for (source, sm), content in zip(wanted, contents, strict=True):
        name = source.parent.name
        write_changed(folder / f"{name}-{sm}.cubin", content)
        cubins.append(Cubin(name, sm, compiler_wheel(sm), hashlib.sha256(content).hexdigest()))
    for name in {cubin.name for cubin in cubins}:
        for file in folder.glob(f"{name}-*.cubin"):
            if file.stem not in {f"{name}-{sm}" for sm in sms}:
                file.unlink()
    return cubins


def _cubin(source: Path, sm: int, cache: Path) -> bytes:
    parts = [compiler_wheel(sm).encode(), str(sm).encode(), source.read_bytes()]
    parts += [file.read_bytes() for file in sorted(_LANGUAGE.glob("*.cuh"))]
    parts.append(Path(__file__).with_name("nvrtc.py").read_bytes())  # which says the options
    digest = hashlib.sha256(b"\0".join(parts)).hexdigest()
    kept = cache / "cubins" / f"{digest}.cubin"
    if kept.is_file():
        return kept.read_bytes()
    content = compiled(source, sm, [_LANGUAGE], cache)
    write_changed(kept, content)
    return content
