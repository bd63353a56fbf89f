#!/usr/bin/env bash
# onnxruntime 1.32.0 for Linux, from PyPI: importing it begins a session of telemetry; events lie in the user's home until
# they can be sent. Its own function to turn that off comes too late for the files.
#
# Input: `import onnxruntime` and one small model, in a process whose HOME and TMPDIR are empty folders.
# Expected: no file appears in either: a library that computes, installed from a package index, on Linux (where telemetry
#   used to be Windows' alone).
# Seen: `.ses` with a session's id in the folder for temporary files, and under the home's .cache/Microsoft a device id and a
#   database of events, among them the path of the program that imported it; both also where
#   onnxruntime.disable_telemetry_events() is called right after the import. With ORT_DISABLE_TELEMETRY=1 in the
#   environment before the import there is none of it.
# Hence: the runtime sets that variable, unless the user has, before it imports the library; a test looks for such files.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.4
cat > "$folder/use.py" <<'PYTHON'
import sys

import numpy as np
import onnxruntime
from onnx import TensorProto, helper

if sys.argv[1] == "function":
    onnxruntime.disable_telemetry_events()
given = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])
found = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])
graph = helper.make_graph([helper.make_node("Abs", ["x"], ["y"])], "graph", [given], [found])
opsets = [helper.make_opsetid("", 20)]
content = helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
session.run(None, {"x": np.zeros(2, np.float32)})
PYTHON
left() {  # how many files a run leaves; $1 is its name, the rest its environment
    mkdir -p "$folder/$1/home" "$folder/$1/tmp"
    env -u CI -u XDG_CACHE_HOME HOME="$folder/$1/home" TMPDIR="$folder/$1/tmp" "${@:2}" \
        "$folder/venv/bin/python" "$folder/use.py" "$1"
    find "$folder/$1" -type f -printf '  %P\n' >&2
    find "$folder/$1" -type f | wc -l
}
"$folder/venv/bin/python" -c 'import onnxruntime; print("onnxruntime", onnxruntime.__version__)'
echo "as it is:"; plain=$(left plain A=1)
echo "disable_telemetry_events():"; late=$(left function A=1)
echo "ORT_DISABLE_TELEMETRY=1:"; quiet=$(left variable ORT_DISABLE_TELEMETRY=1)
echo "files left: $plain, $late, $quiet"
test "$plain" -ge 2 && test "$late" -ge 2 && test "$quiet" -eq 0
