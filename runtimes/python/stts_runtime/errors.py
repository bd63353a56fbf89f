"""Every error a user can meet, in one small tree.

`exit_code` is what the command line returns: 2 for wrong use (arguments, inputs, recipes), 1 for a failed check
(a damaged bundle, a missing engine, a full disk). Messages say what, where, wanted and got, and what to do next.
"""

from __future__ import annotations


class SttsError(Exception):
    """Base of all errors that are not bugs; the command line prints its text without a traceback."""

    exit_code = 1


class UsageError(SttsError):
    """The call cannot work as written: an argument, a recipe or an input is wrong.

    Change what the text names; `--help` of each command says what its options take.
    """

    exit_code = 2


class VideoError(UsageError):
    """A video is missing, empty, unreadable, or has no video stream.

    Does a player show the file? Then convert it: `ffmpeg -i FILE -c:v libx264 clip.mp4`.
    """


class ImageError(UsageError):
    """An image is missing, empty, or unreadable as one.

    Convert the file to PNG or JPEG with what shows it.
    """


class LimitError(UsageError):
    """A shape lies outside what the bundle was built for (frames, tokens).

    Take fewer frames or a shorter question, or build the bundle again with larger limits.
    """


ProfileError = LimitError
"""What `LimitError` was called before; catches the same."""


class BundleError(SttsError):
    """A bundle is damaged, incomplete, unsafe, or written for a newer runtime.

    `stts-export inspect BUNDLE --check` compares every byte: copy or pull a damaged bundle again, or build it again.
    """


class EngineError(SttsError):
    """An inference engine is missing, or refused a graph or an input.

    `stts-runtime doctor BUNDLE` says what the device lacks; `stts-runtime build BUNDLE` makes engines again.
    """


class HubError(SttsError):
    """A model hub cannot be reached, or does not have or give what was named.

    Try again where the hub can be reached, or name a folder in place of it.
    """


class VerificationError(SttsError):
    """There is nothing to verify a bundle against, or it does not compute what its model does.

    Copy or record again what is named; where values differ, `stts-export verify` says from which layer on.
    """
