"""Reports as verification makes them: all is well, scores are tied so that something was skipped, a block departs."""

from dataclasses import replace

from stts_runtime.verify.compare import failure
from stts_runtime.verify.report import FAILED, PASSED, SKIPPED, TIED, CaseResult, Comparison, Report


GOOD = Comparison("vision_tower.blocks.0", PASSED, cosine=1.0, max_error=1e-6, p99_error=5e-7, relative_error=3e-7)
BAD = Comparison(
    "vision_tower.blocks.1", FAILED, cosine=0.98, max_error=0.5, p99_error=0.1, relative_error=0.2, message="off"
)
WORSE = failure("features", "4 of 8 values compared are NaN or infinite")
KEPT = Comparison("keep set", PASSED, overlap=1.0)


def report_of(*results):
    return Report("toy", "torch, toy", "onnxruntime 1.32.0", "float32", results, notes=("a note",))


FINE = report_of(
    CaseResult("vision_dense", "frames 0 to 2", (GOOD,)), CaseResult("end_to_end", "frames to tokens", (KEPT,))
)
TIES = report_of(
    CaseResult("vision_dense", "frames 0 to 2", (GOOD,)),
    CaseResult(
        "end_to_end",
        "frames to tokens",
        (
            replace(KEPT, verdict=TIED, overlap=0.9, message="2 groups differ"),
            Comparison("features", SKIPPED, message="of other groups"),
        ),
    ),
)
FAILING = report_of(
    CaseResult("vision_score", "frames 0 to 2", (GOOD,)),
    CaseResult("vision_encode", "bins 0 to 3", (GOOD, BAD, WORSE)),
    CaseResult("end_to_end", "frames to tokens", (replace(KEPT, verdict=FAILED, overlap=0.5),)),
)
