#!/usr/bin/env bash
# Triton 3.9.0, its interpreter (TRITON_INTERPRET=1, no GPU): bfloat16 is multiplied as integers and rounded toward zero.
#
# Input: a kernel that multiplies two tiles by `tl.dot`, one of ones on the diagonal, one of 1.5 everywhere; and one that
#   casts float32 to bfloat16 and back.
# Expected: what the same kernel gives on a GPU, and the interpreter for float16: 1.5 everywhere; the nearest bfloat16.
# Seen: in float16 1.5; in bfloat16 265,297,920, the product of the two bit patterns (16,256 x 16,320). The cast drops the
#   lower bits: 1.005859375 becomes 1.0 where 1.0078125 is nearest.
# Hence: under the interpreter tiles are cast to float32 before the product, and tests round bfloat16 themselves.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
# torch only holds the tensors; where its wheel comes with CUDA that is some gigabytes
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check triton==3.9.0 torch==2.13.0 numpy==2.4.4
cat > "$folder/kernels.py" <<'PYTHON'
import sys

import torch
import triton
import triton.language as tl


@triton.jit
def product(left, right, out, dtype: tl.constexpr):
    place = tl.arange(0, 16)
    at = place[:, None] * 16 + place[None, :]
    tl.store(out + at, tl.dot(tl.load(left + at).to(dtype), tl.load(right + at).to(dtype)))


@triton.jit
def rounded(number, out):
    place = tl.arange(0, 16)
    tl.store(out + place, tl.load(number + place).to(tl.bfloat16).to(tl.float32))


print("triton", triton.__version__)
seen = {}
for name, dtype in (("float16", tl.float16), ("bfloat16", tl.bfloat16)):
    out = torch.zeros(16, 16)
    product[(1,)](torch.eye(16), torch.full((16, 16), 1.5), out, dtype)
    assert bool((out == out[0, 0]).all())
    seen[name] = out[0, 0].item()
    print(f"1 x 1.5 in {name}: {seen[name]}")
number, out = torch.full((16,), 1.005859375), torch.zeros(16)
rounded[(1,)](number, out)
seen["cast"] = out[0].item()
print(f"{number[0].item()} as bfloat16: {seen['cast']}, by torch {number.bfloat16()[0].item()}")
bits = [int(torch.tensor(value).bfloat16().view(torch.int16)) for value in (1.0, 1.5)]
sys.exit(0 if seen == {"float16": 1.5, "bfloat16": float(bits[0] * bits[1]), "cast": 1.0} else 1)
PYTHON
TRITON_INTERPRET=1 "$folder/venv/bin/python" "$folder/kernels.py"
