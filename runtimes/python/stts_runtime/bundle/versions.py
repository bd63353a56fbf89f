"""Version numbers of other software, which follow no one scheme: what they begin with is what can be compared."""

from __future__ import annotations


def numbers(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version: (10, 13, 3, 9) of `10.13.3.9`, (1, 2) of `1.2.dev3`."""
    found: list[int] = []
    for part in version.split("."):
        if not part.isdecimal():
            break
        found.append(int(part))
    return tuple(found)


def release_of(version: str) -> tuple[int, int]:
    """Return major and minor of `10.13.2.6`; zeros for what is not there."""
    major, minor = (*numbers(version), 0, 0)[:2]
    return major, minor
