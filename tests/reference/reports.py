"""Reports as verification makes them: one in which all is well, and one in which a block departs."""

from dataclasses import replace

from stts_runtime.verify.compare import failed_line
from stts_runtime.verify.report import Line, Report, Rung


GOOD = Line("vision_tower.blocks.0", True, cosine=1.0, max_error=1e-6, p99_error=5e-7, relative_error=3e-7)
BAD = Line("vision_tower.blocks.1", False, cosine=0.98, max_error=0.5, p99_error=0.1, relative_error=0.2, message="off")
WORSE = failed_line("features", "4 of 8 values compared are NaN or infinite")
KEPT = Line("keep set", True, overlap=1.0)


def report_of(*rungs):
    return Report("toy", "torch, toy", "onnxruntime 1.32.0", "float32", rungs, notes=("a note",))


FINE = report_of(Rung("vision_dense", "frames 0 to 2", (GOOD,)), Rung("end_to_end", "frames to tokens", (KEPT,)))
FAILING = report_of(
    Rung("vision_score", "frames 0 to 2", (GOOD,)),
    Rung("vision_encode", "bins 0 to 3", (GOOD, BAD, WORSE)),
    Rung("end_to_end", "frames to tokens", (replace(KEPT, ok=False, overlap=0.5),)),
)
