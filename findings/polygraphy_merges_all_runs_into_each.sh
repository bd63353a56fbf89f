#!/usr/bin/env bash
# Polygraphy 0.53.6: `polygraphy data merge` gives every run the values of the last one.
#
# Input: a file of inputs with two runs, x = 1 in the first and x = 2 in the second, merged into a file by itself.
# Expected: two runs, x = 1 and x = 2.
# Seen: two runs, x = 2 in both, with exit code 0: the runs are one dictionary, listed twice.
# Hence: `stts-runtime verify --save-inputs` writes the first run by itself too, for what begins with a merge.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check polygraphy==0.53.6 numpy==2.4.4
cd "$folder"
venv/bin/python -c "
import numpy as np
from polygraphy.json import save_json
save_json([{'x': np.float32([1])}, {'x': np.float32([2])}], 'two.json')
"
venv/bin/polygraphy data merge two.json -o merged.json > log
venv/bin/python - <<'PYTHON'
import polygraphy
from polygraphy.json import load_json

given, merged = ([run["x"].tolist() for run in load_json(file)] for file in ("two.json", "merged.json"))
print(f"Polygraphy {polygraphy.__version__}: {given} is merged to {merged}")
assert merged == [[2.0], [2.0]], "runs keep their own values"
PYTHON
