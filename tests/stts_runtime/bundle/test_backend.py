"""One record a backend, and none for others."""

import pytest

from stts_export.graph.form import FORMS
from stts_runtime.bundle.backend import BACKENDS, backend_named
from stts_runtime.errors import EngineError


def test_every_backend_has_a_form_for_its_graphs():
    assert list(FORMS) == list(BACKENDS)


def test_only_what_builds_engines_can_be_tied_to_the_device_that_builds():
    assert [backend.name for backend in BACKENDS.values() if not backend.needs_engines] == ["onnxruntime"]
    assert [backend.name for backend in BACKENDS.values() if backend.builds_on_device] == ["tensorrt"]


def test_another_name_is_refused():
    with pytest.raises(EngineError, match=r"'abacus'.*it has: onnxruntime, tensorrt, tensorrt_rtx"):
        backend_named("abacus")
