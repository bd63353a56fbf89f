"""Sizes in messages."""

from stts_runtime.sizes import GIB, MIB, size_text


def test_sizes_are_written_for_people():
    sizes = (12, MIB - 1, MIB, 300 * MIB, GIB, int(7.94 * GIB))
    assert [size_text(size) for size in sizes] == [
        "12 bytes",
        "1048575 bytes",
        "1 MiB",
        "300 MiB",
        "1.0 GiB",
        "7.9 GiB",
    ]
