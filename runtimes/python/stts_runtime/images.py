"""A question about images: which of what is given is one, how many a conversation has room for, and a look at them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from stts_runtime.bundle.manifest import Cropping, Manifest
from stts_runtime.clip.crops import ImageLayout
from stts_runtime.clip.images import Images, are_images, read_images
from stts_runtime.conversation import Conversation, Host
from stts_runtime.errors import LimitError, UsageError
from stts_runtime.language.prompt import image_tokens
from stts_runtime.progress import OnProgress
from stts_runtime.timings import Timings
from stts_runtime.vision.run import image_vision


KINDS = ("video", "images")


def are_meant(given: object, kind: str | None, manifest: Manifest, settings: Mapping[str, object]) -> bool:
    """Tell whether a call is about images.

    A list is of images, and so are an array [H, W, 3] and a Pillow image. A file is one where the bundle knows images
    and it begins as a still picture does; a GIF counts as a video, and so does any file with settings of frames.

    Args:
        given: what is to be looked at.
        kind: what the caller says of it, one of `KINDS`.
        manifest: of the bundle.
        settings: of videos; None where not given.

    Raises:
        UsageError: the kind is unknown, or settings of videos are given with images; to prune nothing (0) may be said.
    """
    if kind not in (None, *KINDS):
        raise UsageError(f"kind is {kind!r}, wanted one of {', '.join(KINDS)}, or none: what is given then says it")
    of_frames = [name for name, value in settings.items() if name != "prune" and value is not None]
    if kind is None and isinstance(given, str | Path):
        kind = "images" if manifest.image is not None and not of_frames and are_images(given) else "video"
    images = are_images(given) if kind is None else kind == "images"
    if images and of_frames:
        raise UsageError(f"{of_frames[0]} is for videos: images have no frames. Leave it out")
    if images and settings.get("prune") not in (None, 0):
        raise UsageError("prune is for videos: images are never pruned. Leave it out, or say 0")
    return images


def images_for(manifest: Manifest, images: object, question: int) -> Images:
    """Return images as a bundle's model looks at them, see `read_images`.

    Args:
        manifest: of the bundle.
        images: one or several.
        question: the tokens of the longest question about them.

    Raises:
        ImageError: a file is no image, or cannot be read.
        UsageError: the bundle knows no images, or what is given is none.
        LimitError: images and question are longer than a conversation may be.
    """
    cropping = _cropping(manifest)

    def admit(layouts: Sequence[ImageLayout]) -> None:
        check_image_tokens(manifest, layouts, question)

    return read_images(images, manifest.grid, cropping, admit)


def look_at_images(host: Host, images: Images, timings: Timings, on_progress: OnProgress) -> Conversation:
    """Return a conversation about images that were read; `timings` gets times and counts."""
    manifest = host.manifest
    vision = image_vision(host.engine("vision_image"), images, manifest, timings, on_progress)
    crops = sum(layout.crops for layout in images.layouts)
    timings.tokens.update(
        images=len(images.images),
        crops=crops,
        groups=vision.keep.size,
        kept_groups=vision.keep.size,
        patches=crops * manifest.grid.patches,
    )
    return Conversation(host, images, vision, 0.0, timings)


def check_image_tokens(manifest: Manifest, layouts: Sequence[ImageLayout], question: int = 0) -> None:
    """Raise LimitError if images and a question of so many tokens are more than a conversation may have."""
    cropping, limit = _cropping(manifest), manifest.limits.max_tokens
    least = image_tokens(manifest.tokens, layouts, cropping)
    if least + question < limit:
        return
    said = f"{len(layouts)} images have" if len(layouts) > 1 else "the image has"
    asked = f" and the question {question}" if question else ""
    raise LimitError(
        f"{said} {least} tokens{asked}, the bundle was built for {limit} in all: show fewer or smaller images, or "
        "build again with a larger --max-tokens or fewer --max-crops"
    )


def _cropping(manifest: Manifest) -> Cropping:
    if manifest.image is None:
        raise UsageError(
            f"{manifest.name} knows videos only, no images: its model does not, or the bundle was built with "
            "--max-crops 0 or by an older stts-export. Ask about a video (frames in memory are one array [frames, "
            "height, width, 3]), or build again from a model that knows images"
        )
    return manifest.image
