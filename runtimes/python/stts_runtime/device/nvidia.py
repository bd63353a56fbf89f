"""What `nvidia-smi` says of the GPUs.

It knows free memory and the driver's version, which libcuda does not tell without making a context. It lists every GPU
of the machine, whatever CUDA_VISIBLE_DEVICES says, and on Jetsons and other GPUs that share the CPU's memory it answers
`[N/A]` to most questions.
"""

from __future__ import annotations

from dataclasses import dataclass


QUERY = (
    "nvidia-smi",
    "--query-gpu=name,compute_cap,memory.total,memory.free,driver_version,pci.bus_id",
    "--format=csv,noheader,nounits",
)


@dataclass(frozen=True)
class SmiGpu:
    """A row of the answer; None where it says that it does not know."""

    name: str | None
    compute_capability: int | None  # 89 is 8.9
    total_bytes: int | None
    free_bytes: int | None
    driver: str | None
    bus_id: str | None  # its place on the PCI bus, `00000000:01:00.0`


def smi_gpus(text: str | None) -> tuple[SmiGpu, ...]:
    """Return a row for each GPU that the answer to `QUERY` lists; lines of any other form are left out."""
    rows = [[field.strip() for field in line.split(",")] for line in (text or "").splitlines()]
    return tuple(_gpu(row) for row in rows if len(row) == 6)


def smi_gpu_at(gpus: tuple[SmiGpu, ...], bus_id: str | None) -> SmiGpu | None:
    """Return the GPU at a place on the bus as CUDA writes it (`0000:01:00.0`), or the first if none is there.

    CUDA's first GPU, the one engines run on, need not be the first of the list.
    """
    there = (gpu for gpu in gpus if bus_id and gpu.bus_id and gpu.bus_id.lower().endswith(bus_id.lower()))
    return next(there, gpus[0] if gpus else None)


def _gpu(row: list[str]) -> SmiGpu:
    name, capability, total, free, driver, bus_id = (None if "N/A" in text or not text else text for text in row)
    major, _, minor = (capability or "").partition(".")
    known = major.isdecimal() and minor.isdecimal()
    return SmiGpu(name, 10 * int(major) + int(minor) if known else None, _mib(total), _mib(free), driver, bus_id)


def _mib(text: str | None) -> int | None:
    return int(text) << 20 if text is not None and text.isdecimal() else None
