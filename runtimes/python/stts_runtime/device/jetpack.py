"""JetPack releases: what each comes with, and which release of Jetson Linux (L4T) tells that it is there.

JetPack leaves no version of its own on a device, so it is known by its L4T release. L4T numbers after NVIDIA's JetPack
archive (pages "JetPack 7.0 with Jetson Linux 38.2/38.2.1" and "JetPack 7.1 with Jetson Linux 38.4") and, for the
others, public issue threads that give both numbers: 36.3 is 6.0, 36.4.3 is 6.2, 36.4.4 is 6.2.1, 36.5 is 6.2.2, 39.2 is
7.2. 36.4.7 is a security update (CVE-2025-33182) that apt brings to 6.2.1; CUDA and TensorRT come from elsewhere and
stay. 6.1 (36.4.0), 6.2.3 (36.5.2) and 7.2.1 (39.2.1) exist; what is in them was not verified, so they are not here.
"""

from __future__ import annotations

from dataclasses import dataclass

from stts_runtime.bundle.versions import numbers


@dataclass(frozen=True)
class JetPack:
    """A JetPack release."""

    name: str
    l4t_releases: tuple[str, ...]  # of Jetson Linux that belong to it, three numbers each
    modules: tuple[str, ...]  # Jetson families it is for
    ubuntu: str
    python: str  # the system's, which is the one that its TensorRT has bindings for
    cuda: str
    tensorrt: str
    tensorrt_extra: str | None = None  # another version that can be installed beside it


JETPACKS = (
    JetPack("6.0", ("36.3.0",), ("Orin",), "22.04", "3.10", "12.2", "8.6.2"),
    JetPack("6.2", ("36.4.3",), ("Orin",), "22.04", "3.10", "12.6", "10.3.0"),
    JetPack("6.2.1", ("36.4.4", "36.4.7"), ("Orin",), "22.04", "3.10", "12.6", "10.3.0"),
    JetPack("6.2.2", ("36.5.0",), ("Orin",), "22.04", "3.10", "12.6", "10.3.0"),
    JetPack("7.0", ("38.2.0", "38.2.1"), ("Thor",), "24.04", "3.12", "13.0", "10.13"),
    JetPack("7.1", ("38.4.0",), ("Thor",), "24.04", "3.12", "13.0", "10.13"),
    JetPack("7.2", ("39.2.0",), ("Orin", "Thor"), "24.04", "3.12", "13.2", "10.16.2", "11.4.1"),
)


def jetpack_of_l4t(l4t: str) -> JetPack | None:
    """Return the JetPack that a release of Jetson Linux belongs to; None if the table does not have it.

    `36.5` and `36.5.0` are the same release.
    """
    wanted = _place(l4t)
    return next((jetpack for jetpack in JETPACKS if wanted in map(_place, jetpack.l4t_releases)), None)


def nearest_jetpack(l4t: str) -> JetPack:
    """Return the JetPack with the release nearest to this one, its own if there is one; of two as near, the older."""
    return min(JETPACKS, key=lambda jetpack: min(abs(_place(l4t) - _place(known)) for known in jetpack.l4t_releases))


def _place(release: str) -> int:
    """Return one number for a release, in the order of releases."""
    major, minor, patch = (*numbers(release), 0, 0, 0)[:3]
    return (major * 100 + minor) * 100 + patch
