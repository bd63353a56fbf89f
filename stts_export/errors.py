"""The compiler's own errors, hung into the runtime's tree so that one handler serves both commands."""

from __future__ import annotations

from stts_runtime.errors import SttsError, UsageError


class RecipeError(UsageError):
    """A recipe has an unknown key or an impossible value."""


class CheckpointError(SttsError):
    """A checkpoint is missing, truncated, of unknown layout, or does not fit the model's configuration."""


class ExportError(SttsError):
    """A part could not be captured as a graph, or a pass broke its contract."""


class PackageError(SttsError):
    """A package is missing, or there in a version that was not tested; the message has the line that installs it."""


class FitError(SttsError):
    """A build cannot fit its target's memory, as far as can be predicted; the message says what would."""


class DiskError(SttsError):
    """The disk is full or cannot be written."""


class DataError(SttsError):
    """A dataset has missing clips, unknown fields or impossible answers, or could not be generated."""


class TrainingError(SttsError):
    """Training cannot start, go on or resume: settings differ, a loss is not finite, memory is exhausted."""
