import importlib.util
import subprocess
import sys

import pytest


PLAIN = "from stts_export.bench.import_transformers import make_transformers_importable as make; make(); "
IMPORT = "import transformers.models.molmo2.modeling_molmo2"


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_model_code_can_be_imported_whatever_torchvision_is_like():
    done = run(PLAIN + "make(); " + IMPORT)  # asking twice is fine
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(importlib.util.find_spec("torchvision") is None, reason="torchvision is not installed")
def test_without_torchvision_nothing_is_declared():
    hide = "import importlib.util as u; find = u.find_spec; "
    hide += "u.find_spec = lambda name, *rest: None if name == 'torchvision' else find(name, *rest); "
    check = "import stts_export.bench.import_transformers as module; assert not module._DECLARED"
    done = run(hide + PLAIN + check)
    assert done.returncode == 0, done.stderr
