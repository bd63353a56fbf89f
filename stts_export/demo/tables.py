"""What the demo found, as tables."""

from __future__ import annotations

from pathlib import PurePath

from stts_export.demo.ask import STAGES
from stts_export.demo.run import NAMES, Demo
from stts_runtime.text_table import Rows


def answer_rows(found: Demo) -> Rows:
    """Return what was asked, what is right and what was said, and what was kept of the flash."""
    rows = [(one.question, one.right, *(one.answers[name] for name in NAMES)) for one in found.questions]
    flash = ("(groups that show this flash and were kept)", str(found.asked[NAMES[0]].flash_groups))
    rows.append((*flash, *(str(found.asked[name].flash_kept) for name in NAMES)))
    title = f"{PurePath(found.clip).name}, a clip of a kind that was never trained on, at {found.prune:.0%} pruned"
    return Rows(title, ("question", "right", *NAMES), tuple(rows))


def time_rows(found: Demo) -> Rows:
    """Return how long a question took, on average."""
    rows = []
    for name in NAMES:
        asked = found.asked[name]
        means = [asked.milliseconds[stage] for stage in STAGES]
        kept = f"{asked.kept_groups} of {asked.groups}"
        rows.append((name, kept, *(f"{mean:.1f}" for mean in means), f"{sum(means):.1f}"))
    return Rows("Milliseconds a question", ("scorer", "groups kept", *STAGES, "in all"), tuple(rows))
