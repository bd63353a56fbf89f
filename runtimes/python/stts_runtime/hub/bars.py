"""What the hub's library shows as bars, told as one share."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any


def bars(on_share: Callable[[float], None] | None = None, total: int = 0) -> Any:
    """Return a class of bars that show nothing; those that count bytes tell the share of `total` that is there.

    The library makes several, from several threads, and what each is called differs between its versions: the one that
    is farthest is told.

    Args:
        on_share: told a share from 0 to 1, never less than before; None for nobody.
        total: bytes of all that is fetched.
    """
    from tqdm.std import tqdm

    lock = Lock()
    farthest = 0.0

    class Silent(tqdm):
        def __init__(self, *arguments: Any, **settings: Any) -> None:
            settings.pop("name", None)
            self._counts_bytes = settings.get("unit") == "B"
            self._bytes = settings.get("initial") or 0
            super().__init__(*arguments, **{**settings, "disable": True})

        def update(self, n: float | None = 1) -> None:
            nonlocal farthest
            if not self._counts_bytes or on_share is None:
                return
            with lock:
                self._bytes += n or 0
                share = min(1.0, self._bytes / max(1, total))
                if share <= farthest:
                    return
                farthest = share
                on_share(share)

    return Silent
