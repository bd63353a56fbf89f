"""A request's body, of bounded size and time."""

from __future__ import annotations

from anyio import fail_after
from starlette.requests import ClientDisconnect, Request

from stts_runtime.serve.refused import RefusedError


SECONDS_A_MIB = 1.0
LEAST_SECONDS = 10.0
"""A body may take so long: a client that sends a byte now and then holds a place for nobody."""


async def read_body(request: Request, most_bytes: int) -> bytes:
    """Return the body.

    Raises:
        RefusedError: it is too large, came too slowly, or was cut off.
    """
    length = check_length(request, most_bytes)
    content = bytearray()
    try:
        with fail_after(seconds_for(most_bytes if length is None else length)):
            async for chunk in request.stream():
                content += chunk
                if len(content) > most_bytes:
                    raise too_large(most_bytes)
    except TimeoutError:
        raise RefusedError(408, "too_slow", "the body came too slowly") from None
    except ClientDisconnect:
        raise RefusedError(400, "cut_off", "the body was cut off") from None
    return bytes(content)


def check_length(request: Request, most_bytes: int) -> int | None:
    """Return how long a request says its body is; None where it does not.

    Raises:
        RefusedError: longer than is allowed.
    """
    said = request.headers.get("content-length", "")
    length = int(said) if said.isascii() and said.isdigit() else None
    if length is not None and length > most_bytes:
        raise too_large(most_bytes)
    return length


def seconds_for(most_bytes: int) -> float:
    """Return how long a body of so many bytes may take."""
    return max(LEAST_SECONDS, SECONDS_A_MIB * most_bytes / (1 << 20))


def too_large(most_bytes: int) -> RefusedError:
    """Return the refusal of a body that is too large."""
    return RefusedError(
        413, "too_large", f"the request is larger than {most_bytes / (1 << 20):g} MiB: send the clip to /v1/files first"
    )
