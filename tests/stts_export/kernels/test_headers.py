"""Which headers of TensorRT are taken, and which are refused."""

import pytest

from stts_export.errors import ExportError
from stts_export.kernels.headers import VARIABLE, tensorrt_headers


def written(folder, text):
    folder.mkdir()
    (folder / "NvInferRuntime.h").write_text("")
    (folder / "NvInferVersion.h").write_text(text)
    return folder


def test_a_folder_that_is_named_is_taken_with_its_version(tmp_path, monkeypatch):
    # as they were up to 10.7, and as they are since
    plain = "#define NV_TENSORRT_MAJOR 10 //!< x\n#define NV_TENSORRT_MINOR 3\n#define NV_TENSORRT_PATCH 0\n"
    by_others = "".join(
        f"#define TRT_{name}_ENTERPRISE {number}\n#define NV_TENSORRT_{name} TRT_{name}_ENTERPRISE\n"
        for name, number in (("MAJOR", 10), ("MINOR", 14), ("PATCH", 1))
    )
    for name, text, version in (("old", plain, "10.3.0"), ("new", by_others, "10.14.1")):
        folder = written(tmp_path / name, text)
        monkeypatch.setenv(VARIABLE, str(folder))
        found = tensorrt_headers(tmp_path)
        assert (found.folder, found.version) == (folder, version)


def test_headers_without_the_interface_are_refused(tmp_path, monkeypatch):
    old = "#define NV_TENSORRT_MAJOR 8\n#define NV_TENSORRT_MINOR 6\n#define NV_TENSORRT_PATCH 2\n"
    monkeypatch.setenv(VARIABLE, str(written(tmp_path / "old", old)))
    with pytest.raises(ExportError, match=r"headers of TensorRT 8.6.2, which has no IPluginV3: .*--ops portable"):
        tensorrt_headers(tmp_path)


def test_a_version_that_is_not_said_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(written(tmp_path / "odd", "")))
    with pytest.raises(ExportError, match="does not say the version's 'MAJOR'"):
        tensorrt_headers(tmp_path)


def test_a_folder_without_headers_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    with pytest.raises(ExportError, match=r"where no NvInferRuntime.h lies: name the folder"):
        tensorrt_headers(tmp_path)
