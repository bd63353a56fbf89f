"""What lies beside a library of plugins and says what is in it, as far as the runtime wants to know it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from stts_runtime.bundle.digest import sha256_of_file


PAGE = "libstts_trt.json"
_JETSONS = {72, 87, 101, 110}


@dataclass(frozen=True)
class PluginPage:
    """What a library is."""

    contract: int  # version of what graphs and plugins agree on
    tensorrt_headers: str  # version of TensorRT's headers that it was compiled against
    sms: tuple[int, ...]  # compute capabilities that every kernel is there for
    cuda: dict[int, int]  # of these, the major version of CUDA that compiled the kernels, where the page says it

    def serves(self, compute_capability: int) -> bool:
        """Return whether a GPU runs the kernels: those for its own major number, up to its minor one."""
        return self.sm_for(compute_capability) is not None

    def sm_for(self, compute_capability: int) -> int | None:
        """Return which kernels a GPU is given, None where there are none for it."""
        return max((sm for sm in self.sms if _runs_on(sm, compute_capability)), default=None)


def _runs_on(compiled: int, device: int) -> bool:
    """Return whether a GPU runs what was compiled for another: later ones of the same major number, no Jetson's."""
    if compiled == device:
        return True
    return not {compiled, device} & _JETSONS and compiled // 10 == device // 10 and compiled < device


def read_page(library: Path) -> PluginPage | None:
    """Return the page of a library; None where there is none, or it is another library's or damaged."""
    try:
        said = json.loads(library.with_name(PAGE).read_text(encoding="utf-8"))
        if said["sha256"] != sha256_of_file(library):
            return None
        found = [(int(kernel["sm"]), re.search(r"-cu(\d+)==", str(kernel["compiler"]))) for kernel in said["kernels"]]
        return PluginPage(
            contract=int(said["contract"]),
            tensorrt_headers=str(said["tensorrt_headers"]),
            sms=tuple(map(int, said["sms"])),
            cuda={sm: int(major[1]) for sm, major in found if major is not None},
        )
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None
