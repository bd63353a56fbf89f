"""Leave a bench on disk: every sample as JSON, a page, and a picture."""

from __future__ import annotations

import json
from pathlib import Path

from stts_export.bench.run import BenchResult
from stts_export.bench.table import markdown_report
from stts_export.errors import DiskError
from stts_runtime.bundle.plain import to_plain
from stts_runtime.bundle.swap import write_whole


JSON, PAGE, PICTURE = "bench.json", "bench.md", "bench.png"


def write_bench(result: BenchResult, folder: Path) -> tuple[Path, Path, Path]:
    """Write `bench.json`, `bench.md` and `bench.png` into `folder`, made if need be, and return their paths.

    Raises:
        DiskError: the disk is full or cannot be written.
    """
    from stts_export.bench.plot import plot_bench

    data = json.dumps(to_plain(result), indent=2) + "\n"
    page = markdown_report(result)
    try:
        return (
            write_whole(folder / JSON, lambda path: path.write_text(data)),
            write_whole(folder / PAGE, lambda path: path.write_text(page)),
            write_whole(folder / PICTURE, lambda path: plot_bench(result, path)),
        )
    except OSError as error:
        raise DiskError(f"{folder}: the bench could not be written: {error.strerror or error}") from error
