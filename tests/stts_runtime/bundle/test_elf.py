"""What a library's file says of itself, and that no damaged one ends in anything but a BundleError."""

import random
import sys
from pathlib import Path

import pytest
from reference.elf_file import write_library

from stts_runtime.bundle.elf import ElfFile, read_elf
from stts_runtime.errors import BundleError


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_machine_and_newest_c_library_are_read(tmp_path, machine):
    file = write_library(tmp_path / "a.so", machine, ("GLIBC_2.4", "GLIBC_2.17", "GLIBC_2.9", "GLIBC_PRIVATE", "GCC_3"))
    assert read_elf(file) == ElfFile(machine, (2, 17))


def test_a_library_that_asks_for_no_version_has_none(tmp_path):
    assert read_elf(write_library(tmp_path / "a.so", versions=())) == ElfFile("x86_64", ())


def test_a_machine_that_nobody_builds_for_is_told_by_its_number(tmp_path):
    assert read_elf(write_library(tmp_path / "a.so", "riscv")).machine == "machine 243"


@pytest.mark.skipif(sys.platform != "linux", reason="reads a library of the system")
def test_the_systems_own_libraries_can_be_read():
    lines = Path("/proc/self/maps").read_text().splitlines()
    file = next(Path(line.split()[-1]) for line in lines if "libc.so" in line or "/libc-" in line or "ld-" in line)
    assert read_elf(file).machine in ("x86_64", "aarch64")


def test_what_is_no_library_is_refused(tmp_path):
    for content in (b"", b"\x7fELF", b"#!/bin/sh\n" * 20):
        (tmp_path / "a.so").write_bytes(content)
        with pytest.raises(BundleError, match="cannot be read as a shared library"):
            read_elf(tmp_path / "a.so")
    with pytest.raises(BundleError, match="cannot be read"):
        read_elf(tmp_path / "absent.so")


def test_damaged_bytes_end_in_an_answer_or_a_bundle_error(tmp_path):
    file = write_library(tmp_path / "a.so")
    whole = file.read_bytes()
    draw = random.Random(0)
    refused = 0
    for _ in range(2000):
        content = bytearray(whole[: draw.randrange(len(whole) // 2, len(whole) + 1)])
        for _ in range(draw.randrange(1, 5)):
            content[draw.randrange(len(content))] = draw.choice((0, 1, 0x7F, 0xFF, draw.randrange(256)))
        file.write_bytes(content)
        try:
            read_elf(file)
        except BundleError:
            refused += 1
    assert refused > 500
