#!/usr/bin/env bash
# torch 2.13.0, on a CPU with Linux and glibc: every large temporary is memory fresh from the system.
#
# Input: the same sum over a float32 array of 256 MiB, as a whole and 1 MiB at a time: what a script does that rounds a
#   model's weights.
# Expected: a temporary that was freed is taken again by the next operator, as on a GPU, whose allocator keeps blocks.
# Seen: on a CPU torch keeps nothing. The C library gives blocks of more than 32 MiB back at once, whatever was freed
#   before, so each operator has every page of its result mapped and zeroed anew: 65,536 page faults an operator, most
#   of the time in the kernel. In pieces of 1 MiB, once a block of 16 MiB was freed, there are next to none. (Huge pages
#   hide it where the system gives them unasked: the script asks for none.)
# Hence: weights are rounded and searched 2^18 elements at a time (`pieces_of`): four bits in a fifth of the time.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.4
cd "$folder"
OMP_NUM_THREADS=1 venv/bin/python - <<'PYTHON'
import ctypes
import resource

import torch

ELEMENTS, ROUNDS = 1 << 26, 4


def cost(pieces):
    """Return page faults and seconds, of the program and of the kernel, of the chain over an array cut so."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    for _ in range(ROUNDS):
        for piece in pieces:
            ((piece * 3.0).round() / 3.0 - piece).square().sum()
    after = resource.getrusage(resource.RUSAGE_SELF)
    return tuple(round(getattr(after, key) - getattr(before, key), 2) for key in ("ru_minflt", "ru_utime", "ru_stime"))


PR_SET_THP_DISABLE = 41
ctypes.CDLL(None).prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)
torch.set_num_threads(1)
whole = torch.ones(ELEMENTS)
pieces = whole.split(1 << 18)
cost([whole])  # so that the C library has seen such blocks, and may learn to keep them
torch.zeros(1 << 22)  # it keeps blocks up to the largest that was ever freed, of 32 MiB at most
at_once, in_pieces = cost([whole]), cost(pieces)
print(f"torch {torch.__version__.split('+')[0]}: faults, seconds of the program and of the kernel")
print(f"whole {at_once}, in pieces {in_pieces}")
temporaries, page = 5 * ROUNDS, resource.getpagesize()
assert at_once[0] >= 0.9 * temporaries * ELEMENTS * 4 / page, "large temporaries are kept"
assert in_pieces[0] < at_once[0] / 100, "small ones are not"
PYTHON
