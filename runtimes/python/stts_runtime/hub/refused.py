"""Why a hub did not give what was asked for, in one message that says what to do."""

from __future__ import annotations

from typing import Any

from stts_runtime.errors import HubError
from stts_runtime.hub.name import HubName


_DENIED = (401, 403)
_NOT_FOUND = 404
_BUSY = 429
_HTTP = ("httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3")
"""What the library has asked by, from version to version."""
_LOGIN = "`hf auth login` stores one, or set HF_TOKEN"


def cause_of(error: Exception) -> Exception:
    """Return what really happened, where the library only says while doing what."""
    cause = error.__cause__
    return cause if type(error) is RuntimeError and isinstance(cause, Exception) else error


def unreachable(hub: Any, error: Exception) -> str | None:
    """Return why a hub cannot be asked, where it gave no answer or one that it is not well; None where it answered."""
    status = status_of(error)
    if status is not None and status < 500 and status != _BUSY:
        return None
    if status is None and not isinstance(error, OSError) and type(error).__module__.partition(".")[0] not in _HTTP:
        return None
    said = f"HTTP {status}" if status is not None else f"{type(error).__name__}: {error}".strip(": ")
    return f"the hub at {hub.constants.ENDPOINT} cannot be reached ({said.partition(chr(10))[0]})"


def refusal(hub: Any, name: HubName, error: Exception) -> HubError:
    """Return the error for a hub that answered and refused."""
    where, repository, status = hub.constants.ENDPOINT, name.repository, status_of(error)
    has_token = hub.get_token() is not None
    here = f" There is no folder {repository} here either."
    if isinstance(error, hub.errors.GatedRepoError):
        first = "With the token that was found it is still closed: " if has_token else ""
        return HubError(
            f"{repository} is gated: its owners let in who accepts their conditions. {first}Accept them at "
            f"{where}/{repository}, and give a token of that account: {_LOGIN}"
        )
    if isinstance(error, hub.errors.RevisionNotFoundError):
        return HubError(
            f"{repository} has no revision {name.revision!r}, or no longer: {where}/{repository}/tree/main shows what "
            f"there is; {repository} alone takes the newest"
        )
    if isinstance(error, hub.errors.DisabledRepoError):
        return HubError(f"{where} has disabled {repository}: {where}/{repository} may say why")
    if isinstance(error, hub.errors.RepositoryNotFoundError) or status == _NOT_FOUND:
        who = "that the token found may see" if has_token else "that may be seen without a token"
        return HubError(
            f"{where} has no model {repository} {who}. Check the spelling; a private one needs a token: {_LOGIN}.{here}"
        )
    if status in _DENIED:
        who = "the token that was found" if has_token else "whoever has no token"
        return HubError(f"{where} refuses {repository} to {who} (HTTP {status}): {_LOGIN}.{here}")
    said = f"HTTP {status}" if status is not None else f"{type(error).__name__}: {error}"
    return HubError(f"{where} did not give {name}: {said}".rstrip())


def status_of(error: Exception) -> int | None:
    """Return the HTTP status that an error of the library carries."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None
