"""Run an STTS bundle: frames and a question in, text out.

    from stts_runtime import load

    with load("model.stts") as model:
        print(model.ask("clip.mp4", "What happens?"))

Names are imported when they are first used, so `import stts_runtime` does not even wait for numpy. Tokenizer, video
decoder and engine wait until a question needs them.
"""

from importlib import import_module
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from stts_runtime.clip.images import Images
    from stts_runtime.clip.video import Clip
    from stts_runtime.conversation import Conversation
    from stts_runtime.errors import (
        BundleError,
        EngineError,
        HubError,
        ImageError,
        LimitError,
        SttsError,
        UsageError,
        VideoError,
    )
    from stts_runtime.language.generation import Generation
    from stts_runtime.live.feed import Feed
    from stts_runtime.live.live import Live
    from stts_runtime.live.records import Answer
    from stts_runtime.live.watch import Watch
    from stts_runtime.session import Session, load

__all__ = [
    "Answer",
    "BundleError",
    "Clip",
    "Conversation",
    "EngineError",
    "Feed",
    "Generation",
    "HubError",
    "ImageError",
    "Images",
    "LimitError",
    "Live",
    "ProfileError",
    "Session",
    "SttsError",
    "UsageError",
    "VideoError",
    "Watch",
    "load",
]
_MODULES = {
    "Conversation": "conversation",
    "Session": "session",
    "load": "session",
    "Generation": "language.generation",
    "Clip": "clip.video",
    "Images": "clip.images",
    "Answer": "live.records",
    "Feed": "live.feed",
    "Live": "live.live",
    "Watch": "live.watch",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES.get(name, 'errors')}"), name)


def __dir__() -> list[str]:
    return __all__
