"""What TensorRT says while it works, collected: the cause of an error is the first thing it says, all else is noise."""

from __future__ import annotations

import re
from typing import Any


_SHOWN = 3
_FIGURES = {
    "scratch_bytes": re.compile(r"Max Scratch Memory: (\d+) bytes"),
    "activation_bytes": re.compile(r"Total Activation Memory: (\d+) bytes"),
}
_NO_DRIVER = re.compile(r"cudaError 35|CUDA initialization failure with error: 35|driver version is insufficient")


class Messages:
    """All that was said, as (severity, text); severities are TensorRT's, 0 and 1 are errors, 2 warnings, 4 details."""

    def __init__(self) -> None:
        self.all: list[tuple[int, str]] = []

    def add(self, severity: int, text: str) -> None:
        """Keep one message; TensorRT calls this from several threads."""
        self.all.append((severity, text))

    def errors(self) -> list[str]:
        """Return the errors in order, each once.

        The lack of a driver is left out where anything else is known: on a machine without a GPU it follows any error.
        """
        texts = list(dict.fromkeys(text for severity, text in self.all if severity <= 1))
        return [text for text in texts if not _NO_DRIVER.search(text)] or texts

    def explanation(self) -> str:
        """Return the first errors as text for a message; where there are none, the last warning."""
        errors = self.errors()
        if not errors:
            warnings = [text for severity, text in self.all if severity == 2]
            return f"it gave no reason; its last warning: {warnings[-1]}" if warnings else "it gave no reason"
        more = f" ({len(errors) - _SHOWN} more messages)" if len(errors) > _SHOWN else ""
        return "; ".join(errors[:_SHOWN]) + more

    def figures(self) -> dict[str, int]:
        """Return what the log says of an engine's memory, in bytes; a key is missing where it says nothing.

        It speaks of each profile in turn; what one wants at most is what counts.
        """
        return {key: max(told) for key in _FIGURES if (told := self._told(key))}

    def activations(self) -> tuple[int, ...]:
        """Return what the log says that a context of each profile wants while it runs, in bytes; empty if nothing."""
        return self._told("activation_bytes")

    def _told(self, key: str) -> tuple[int, ...]:
        return tuple(int(match[1]) for _, text in self.all if (match := _FIGURES[key].search(text)))

    def layers(self) -> str:
        """Return the dump of the engine's layers and bindings, empty unless the log is detailed."""
        dumps = [text for _, text in self.all if text.startswith("Layers:")]
        return dumps[-1] if dumps else ""


def collecting_logger(module: Any, messages: Messages, verbose: bool) -> Any:
    """Return an `ILogger` of this TensorRT that fills `messages`; details are kept only if `verbose`."""
    most = 4 if verbose else 3

    class CollectingLogger(module.ILogger):
        def __init__(self) -> None:
            module.ILogger.__init__(self)

        def log(self, severity: Any, text: str) -> None:
            if int(severity) <= most:
                messages.add(int(severity), text)

    return CollectingLogger()
