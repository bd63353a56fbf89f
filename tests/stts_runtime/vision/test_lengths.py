import numpy as np
import pytest

from stts_runtime.errors import EngineError
from stts_runtime.vision.lengths import check_cumulative_lengths


@pytest.mark.parametrize("lengths", [[0], [0, 9], [0, 0, 9, 9, 27]], ids=str)
def test_lengths_that_add_up_pass(lengths):
    check_cumulative_lengths(np.array(lengths), lengths[-1])


@pytest.mark.parametrize(
    ("lengths", "rows", "words"),
    [
        ([], 0, "cumulative lengths have shape"),
        ([9, 18], 18, "the first frame begins at row 9, wanted 0"),
        ([0, 18, 9, 27], 27, "frame 1 ends at row 9 and begins at 18"),
        ([0, 9, 18], 27, "frames end at row 18 of 27"),
        ([0, 0, 0, -1], 0, "frame 2 ends at row -1 and begins at 0"),
    ],
    ids=str,
)
def test_lengths_that_do_not_add_up_are_refused(lengths, rows, words):
    with pytest.raises(EngineError, match=words):
        check_cumulative_lengths(np.array(lengths, dtype=np.int64), rows)
