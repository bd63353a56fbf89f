"""What a client is told that cannot be served, in the form that clients of OpenAI's API read."""

from __future__ import annotations

import logging
import traceback
from typing import Any

from stts_runtime.errors import LimitError, SttsError, UsageError, VideoError


log = logging.getLogger("stts_runtime.serve")

_FAILED = "the server could not answer; its log says why"


class RefusedError(Exception):
    """A request that is not served.

    Change the field that is named; what ended in 408, 429 or 503 may be sent again as it is.

    Attributes:
        status: of HTTP.
        code: one word, for programs.
        parameter: the field that is wrong, if one is.
        retry_after: seconds after which to ask again; None where that would not help.
    """

    def __init__(
        self, status: int, code: str, message: str, parameter: str | None = None, retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.parameter, self.retry_after = status, code, parameter, retry_after

    def body(self) -> dict[str, Any]:
        """Return what is sent; the message names the field too, since most clients show nothing else."""
        kind, message = "server_error" if self.status >= 500 else "invalid_request_error", str(self)
        if self.parameter is not None and self.parameter not in message:
            message = f"{self.parameter}: {message}"
        return {"error": {"message": message, "type": kind, "param": self.parameter, "code": self.code}}

    def headers(self) -> dict[str, str]:
        """Return the headers that belong to it."""
        if self.status == 401:
            return {"WWW-Authenticate": "Bearer"}
        return {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}


def refused_of(error: SttsError) -> RefusedError:
    """Return what is told of an error of the runtime: a fault of ours without its text, which may name files."""
    if isinstance(error, LimitError):
        return RefusedError(400, "context_length_exceeded", str(error))
    if isinstance(error, VideoError):
        return RefusedError(400, "invalid_clip", str(error))
    if isinstance(error, UsageError):
        return RefusedError(400, "invalid_value", str(error))
    return RefusedError(500, "engine_failed", _FAILED)


def failure(error: BaseException) -> RefusedError:
    """Return what is told of a bug, and log where it is: its text, which may quote what was asked, stays out."""
    places = "".join(traceback.format_tb(error.__traceback__))
    log.error("a request failed: %s at\n%s", type(error).__name__, places)
    return RefusedError(500, "internal_error", _FAILED)


def stopping() -> RefusedError:
    """Return what is told while the server ends."""
    return RefusedError(503, "server_stopping", "the server is ending: ask again later", retry_after=5)


def bad(message: str, parameter: str | None = None, code: str = "invalid_value") -> RefusedError:
    """Return a refusal of a field's value."""
    return RefusedError(400, code, message, parameter)
