"""Version numbers of other software."""

import pytest

from stts_runtime.bundle.versions import numbers, release_of


@pytest.mark.parametrize(
    ("version", "expected"),
    [("10.13.3.9", (10, 13, 3, 9)), ("1.2.dev3", (1, 2)), ("11.0rc1", (11,)), ("", ()), ("none", ())],
)
def test_what_a_version_begins_with_is_read(version, expected):
    assert numbers(version) == expected


@pytest.mark.parametrize(
    ("version", "expected"),
    [("10.13.2.6", (10, 13)), ("8.6", (8, 6)), ("11.0rc1", (11, 0)), ("12", (12, 0)), ("", (0, 0))],
)
def test_a_release_is_major_and_minor(version, expected):
    assert release_of(version) == expected
