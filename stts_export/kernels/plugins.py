"""libstts_trt.so for each machine, and a page beside it that says what is in it: what `make plugins` does."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from stts_export.errors import ExportError
from stts_export.kernels.compilers import COMPILERS, compiler_for
from stts_export.kernels.cubins import Cubin, write_cubins
from stts_export.kernels.headers import Headers, tensorrt_headers
from stts_export.kernels.library import (
    SOURCES,
    library_sources,
    make_library,
)
from stts_export.kernels.triton_cubins import write_triton_cubins
from stts_export.kernels.variants import LAUNCHES
from stts_runtime.bundle.digest import sha256_of_file
from stts_runtime.bundle.plain import from_plain, to_plain
from stts_runtime.bundle.plugin_library import LIBRARY
from stts_runtime.bundle.plugin_page import PAGE
from stts_runtime.bundle.swap import write_whole
from stts_runtime.errors import SttsError
from stts_runtime.vision.host_plan import LIBRARY as HOST_LIBRARY


@dataclass(frozen=True)
class PluginPage:
    """What lies beside a library and says what it is."""

    contract: int  # version of what graphs and plugins agree on
    machine: str  # `x86_64`, `aarch64`
    tensorrt_headers: str  # version that it was compiled against
    compiler: str  # the C++ compiler's own line
    sms: tuple[int, ...]  # compute capabilities that every kernel is there for
    kernels: tuple[Cubin, ...]
    size: int
    sha256: str
    host_sha256: str  # of libstts_host.so beside it, the plan for the CPU
    made_from: str  # digest of all that it was made from


def make_plugins(out: Path, work: Path, sms: Sequence[int], machines: Sequence[str]) -> list[PluginPage]:
    """Return what was made: `out`/MACHINE/libstts_trt.so, libstts_host.so and libstts_trt.json beside it.

    What is made of the same sources by the same compilers is the same to the byte, and is not made again.

    Args:
        out: folder to write to.
        work: folder where compilers that were downloaded, kernels and objects are kept.
        sms: compute capabilities to compile kernels for, 87 for 8.7.
        machines: of `COMPILERS`.

    Raises:
        ExportError: a compiler or TensorRT's headers cannot be had, or a source does not compile.
    """
    compilers = {machine: _compiler_of(machine) for machine in machines}  # said before kernels are made, for minutes
    headers = tensorrt_headers(work)
    cubins = (*write_cubins(sms, work / "kernels", work), *write_triton_cubins(sms, work / "kernels", work))
    return [
        _made_for(machine, compiler, out / machine, work, headers, cubins) for machine, compiler in compilers.items()
    ]


def contract_version() -> int:
    """Return the version of the contract that the sources implement."""
    found = re.search(r"kContract = (\d+);", (SOURCES / "src/contract.h").read_text())
    assert found is not None, "contract.h says its version in another way"
    return int(found[1])


def read_page(library: Path) -> PluginPage | None:
    """Return what the page beside `library` says; None where there is none, or one of another kind."""
    try:
        return from_plain(PluginPage, json.loads(library.with_name(PAGE).read_bytes()), PAGE)
    except (OSError, ValueError, SttsError):
        return None


def _compiler_of(machine: str) -> str:
    compiler = compiler_for(machine)
    if compiler is None:
        raise ExportError(
            f"no compiler for {machine} is installed here: install {COMPILERS[machine]} (on Debian and Ubuntu the "
            f"package g++-{machine.replace('_', '-')}-linux-gnu), or leave this machine out"
        )
    return compiler


def _made_for(
    machine: str, compiler: str, folder: Path, work: Path, headers: Headers, cubins: tuple[Cubin, ...]
) -> PluginPage:
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
    parts = [version, headers.version, *(cubin.sha256 for cubin in cubins)]
    parts.append(sha256_of_file(work / "kernels" / LAUNCHES))
    parts += [f"{path.name} {sha256_of_file(path)}" for path in library_sources()]
    made_from = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    page = read_page(folder / LIBRARY)
    if page is not None and page.made_from == made_from and _holds(folder, page):
        return page
    built = make_library("library", work / machine, compiler, headers, work / "kernels")
    (folder / PAGE).unlink(missing_ok=True)
    for name in (LIBRARY, HOST_LIBRARY):
        write_whole(folder / name, partial(shutil.copyfile, built.with_name(name)))
    page = PluginPage(
        contract=contract_version(),
        machine=machine,
        tensorrt_headers=headers.version,
        compiler=version,
        sms=tuple(sorted({cubin.sm for cubin in cubins})),
        kernels=cubins,
        size=built.stat().st_size,
        sha256=sha256_of_file(built),
        host_sha256=sha256_of_file(built.with_name(HOST_LIBRARY)),
        made_from=made_from,
    )
    text = json.dumps(to_plain(page), indent=2) + "\n"
    write_whole(folder / PAGE, lambda path: path.write_text(text, encoding="utf-8"))
    return page


def _holds(folder: Path, page: PluginPage) -> bool:
    wanted = {LIBRARY: page.sha256, HOST_LIBRARY: page.host_sha256}
    return all((folder / name).is_file() and sha256_of_file(folder / name) == wanted[name] for name in wanted)
