import pytest

from stts_export.bench.machine import engine_threads, this_machine


def test_the_machine_is_named_with_the_versions_that_matter():
    machine = this_machine()
    assert machine.processor
    assert machine.cores >= 1
    assert machine.memory_gib > 0
    assert {"onnxruntime", "torch", "transformers"} <= set(machine.versions)


@pytest.mark.parametrize(("variable", "threads"), [("3", 3), ("", None), ("0", None)])
def test_torch_uses_as_many_threads_as_the_bundle(monkeypatch, variable, threads):
    monkeypatch.setenv("STTS_THREADS", variable)
    assert engine_threads() == (threads or this_machine().cores)
