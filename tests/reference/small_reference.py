"""A reference of one run of one graph, made by hand: enough for what reads, writes and compares references."""

import numpy as np

from stts_runtime.verify.reference import FRAMES, REFERENCE_SCHEMA, Answer, RecordedRun, Reference, ReferenceInfo, Value


def small_reference() -> Reference:
    """Return the reference of a decoder that gives logits [2, 3] for two token ids."""
    value = Value("logits", "logits", (2, 3), 5.0)
    run = RecordedRun("decoder", "prefill", {"token_ids": "decoder/prefill/in/token_ids"}, None, (value,))
    answer = Answer(0.5, 0.25, None, (1, 2), (2,), (1.0,))
    arrays = {
        FRAMES: np.zeros((2, 4, 4, 3), np.uint8),
        "decoder/prefill/in/token_ids": np.array([[1, 2]]),
        "decoder/prefill/logits": np.arange(6, dtype=np.float32).reshape(2, 3),
        "rows/2": np.arange(2),
    }
    return Reference(ReferenceInfo(REFERENCE_SCHEMA, "torch, toy", (run,), answer), arrays)
