"""The compiler's own errors, hung into the runtime's tree so that one handler serves both commands."""

from __future__ import annotations

from stts_runtime.errors import SttsError, UsageError


class RecipeError(UsageError):
    """A recipe has an unknown key or an impossible value.

    Compare the key with the recipes that ship, in `recipes/`.
    """


class CheckpointError(SttsError):
    """A checkpoint is missing, truncated, of unknown layout, or does not fit the model's configuration.

    Get the checkpoint again, whole, as its maker ships it, or name the recipe that belongs to it with `--model`.
    """


class ExportError(SttsError):
    """A part could not be captured as a graph, or a pass broke its contract.

    The model or a package is of another kind than what was tested: report it, with what `--debug` prints.
    """


class PackageError(SttsError):
    """A package is missing, or there in a version that was not tested; the message has the line that installs it."""


class FitError(SttsError):
    """A build cannot fit its target's memory, as far as can be predicted; the message says what would."""


class DiskError(SttsError):
    """The disk is full or cannot be written.

    Free some room, or write to another disk or a folder of your own.
    """


class DataError(SttsError):
    """A dataset has missing clips, unknown fields or impossible answers, or could not be generated.

    Mend the file or line that is named, or generate the dataset again.
    """


class TrainingError(SttsError):
    """Training cannot start, go on or resume: settings differ, a loss is not finite, memory is exhausted.

    Go on with `--resume` and the settings it was begun with, or begin anew with another `-o`.
    """
