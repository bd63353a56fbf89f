"""What is a hub's name, and what is a path: decided by the form of the text alone."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from stts_runtime.errors import UsageError


FILE_ENDINGS = (".stts", ".toml", ".safetensors", ".json")
"""What ends so is a path: a bundle, a recipe or a file of weights that is not there is not looked for on a hub."""

_PART = re.compile(r"[A-Za-z0-9_]([\w.-]*[A-Za-z0-9_])?", re.ASCII)
_REVISION = re.compile(r"\w[\w./-]*", re.ASCII)
_LONGEST = 96


@dataclass(frozen=True)
class HubName:
    """A repository on a hub, `org/name`, and which of its revisions: a branch, a tag or a commit; None is `main`."""

    repository: str
    revision: str | None = None

    def __str__(self) -> str:
        return self.repository if self.revision is None else f"{self.repository}@{self.revision}"


def hub_name(text: str) -> HubName | None:
    """Return the repository that a text names, `org/name` or `org/name@revision`; None where it can only be a path.

    Whoever calls has looked for a path of that name before: what is there is a path, whatever its form. A hub's name
    has one slash, and begins with no `.`, `/` or `~`, and does not end as files and bundles do.

    Raises:
        UsageError: it has the form of a hub's name, and no hub has such names.
    """
    repository, mark, revision = text.partition("@")
    owner, _, name = repository.partition("/")
    is_path = text.startswith((".", "/", "~")) or not owner or not name or "/" in name
    if is_path or repository.endswith(FILE_ENDINGS):
        return None
    wrong = [part for part in (owner, name) if not _PART.fullmatch(part) or "--" in part or ".." in part]
    if wrong or len(repository) > _LONGEST or name.endswith(".git"):
        raise UsageError(
            f"{text!r} is no path that exists, and no name on a hub either: those are ORG/NAME of letters, digits, "
            f"'-', '_' and '.', at most {_LONGEST} in all, without '--', '..' or '.git' at the end. A folder is "
            "named by its path, such as ./FOLDER"
        )
    if mark and (not _REVISION.fullmatch(revision) or ".." in revision):
        raise UsageError(
            f"{text!r}: {revision!r} is no revision: wanted a branch, a tag or a commit behind the @, as in "
            f"{repository}@main; leave both out for the newest"
        )
    return HubName(repository, revision if mark else None)


def named_on_hub(text: str) -> HubName | None:
    """Return the repository that a text names, None where it is a path: one that exists, or one by its form.

    Raises:
        UsageError: see `hub_name`.
    """
    try:
        exists = os.path.lexists(os.path.expanduser(text))  # noqa: PTH111  a path's own raises where there is no such user
    except ValueError:  # a zero byte
        return None
    return None if exists else hub_name(text)
