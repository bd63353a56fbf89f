"""What `make plugins` makes: the same to the byte, kept while nothing changes, and run by the GPU it was made for."""

import pytest
from reference.conformance import OPERATORS
from reference.plugin_harness import CONTRACT, WORK, Node, harness_for

from stts_export.errors import ExportError
from stts_export.kernels import plugins
from stts_export.kernels.compilers import compiler_for
from stts_export.kernels.nvrtc import compiled, fetched_compiler
from stts_export.kernels.plugins import contract_version, make_plugins, read_page
from stts_export.kernels.ptx import TRITON, find_triton
from stts_runtime.bundle.plugin_library import LIBRARY


@pytest.fixture
def work(tmp_path):
    """A folder to work in that has what is downloaded, or a skip."""
    if compiler_for("x86_64") is None:
        pytest.skip("no g++ is installed")
    try:
        wheel = fetched_compiler(87, WORK)
    except ExportError as error:
        pytest.skip(f"no NVRTC: {error}")
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / wheel.name).symlink_to(wheel)
    for other in WORK.glob("kernel-lens*"):
        (folder / other.name).symlink_to(other)
    return folder


@pytest.fixture
def work_with_triton(work):
    """The same with Triton, whose wheel is too large to be fetched for a test."""
    try:
        find_triton()
    except ExportError:
        wheel = WORK / f"triton=={TRITON}"
        if not wheel.is_dir():
            pytest.skip("Triton is neither installed nor fetched; `make plugins` fetches it")
        (work / wheel.name).symlink_to(wheel)
    return work


def test_the_contract_is_that_of_the_sources():
    assert contract_version() == CONTRACT


@pytest.mark.slow
def test_a_library_is_the_same_wherever_it_is_made_and_serves_its_gpu(work_with_triton, tmp_path, run_folder):
    work = work_with_triton
    (page,) = make_plugins(tmp_path / "out", work, [87], ["x86_64"])
    library = tmp_path / "out/x86_64" / LIBRARY
    assert (page.machine, page.contract, page.sms, page.size) == ("x86_64", CONTRACT, (87,), library.stat().st_size)
    assert read_page(library) == page

    written = library.stat().st_mtime_ns
    assert make_plugins(tmp_path / "out", work, [87], ["x86_64"]) == [page]
    assert library.stat().st_mtime_ns == written

    for made in ("x86_64", "cubins", "kernels"):
        (work / made).rename(tmp_path / made)
    (again,) = make_plugins(tmp_path / "other", work, [87], ["x86_64"])
    assert again == page

    harness = harness_for("x86_64", run_folder)
    cases = [(operator, operator.plugin_cases()[0]) for operator in OPERATORS.values()]
    nodes = [Node(operator.plugin, case.inputs, case.attributes) for operator, case in cases]
    for (operator, case), answer in zip(cases, harness.run(nodes, sm=87, library=library), strict=True):
        operator.check(case, answer.outputs)
    for answer in harness.run(nodes, sm=86, library=library):
        assert answer.refused == "attachToContext"
        assert "this GPU is SM 86, and the library has kernels for SM 87" in " ".join(answer.messages)


def test_a_kernel_that_does_not_compile_says_where(work, tmp_path):
    source = tmp_path / "kernel.cu"
    source.write_text('extern "C" __global__ void broken(float* out) { out[0] = nothing; }')
    with pytest.raises(ExportError, match=r"kernel.cu could not be compiled for SM 87.*(\n|.)*nothing"):
        compiled(source, 87, [], work)


def test_an_unknown_compute_capability_is_said_by_the_compiler(work, tmp_path):
    source = tmp_path / "kernel.cu"
    source.write_text('extern "C" __global__ void nothing() {}')
    with pytest.raises(ExportError, match=r"could not be compiled for SM 12: (.|\n)*gpu-architecture"):
        compiled(source, 12, [], work)


def test_a_machine_without_a_compiler_is_named_before_anything_is_made(tmp_path, monkeypatch):
    monkeypatch.setattr(plugins, "compiler_for", lambda machine: "g++" if machine == "x86_64" else None)
    with pytest.raises(ExportError, match="no compiler for aarch64 is installed here: install aarch64-linux-gnu-g"):
        make_plugins(tmp_path / "out", tmp_path / "work", [87], ["x86_64", "aarch64"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("spoilt", [b"", b"{}", b"[]", b'{"kernels": [{}], "sms": []}'])
def test_a_page_that_says_something_else_is_none(tmp_path, spoilt):
    (tmp_path / plugins.PAGE).write_bytes(spoilt)
    assert read_page(tmp_path / LIBRARY) is None


def test_no_page_is_none(tmp_path):
    assert read_page(tmp_path / LIBRARY) is None
