"""Built engines: found, explained, checked; a damaged or foreign set never passes for a good one."""

import json
from dataclasses import replace

import pytest
from reference.engine_bundle import seal, write_engine_bundle, write_engine_set

from stts_runtime.bundle.digest import sealed
from stts_runtime.bundle.engine_choice import find_engine_set
from stts_runtime.bundle.engine_set import ENGINES, INDEX, manifest_digest, read_engine_sets
from stts_runtime.bundle.manifest import FileEntry
from stts_runtime.bundle.open import open_bundle
from stts_runtime.errors import BundleError, EngineError


@pytest.fixture
def bundle(tmp_path):
    return open_bundle(write_engine_bundle(tmp_path / "small.stts"))


def refusal(bundle, version="1.7.1", sm=86):
    with pytest.raises(EngineError) as caught:
        find_engine_set(bundle, version, sm)
    assert f"stts-runtime build {bundle.path}" in str(caught.value)
    return str(caught.value)


def test_a_bundle_without_engines_says_how_to_make_them(bundle):
    assert read_engine_sets(bundle.path) == ()
    assert "holds no engines yet (wanted: tensorrt_rtx 1.7.1, SM 86)" in refusal(bundle)


def test_the_set_of_this_device_is_found_and_the_most_special_one_first(bundle):
    shared = write_engine_set(bundle.path, bundle.manifest)
    other = write_engine_set(bundle.path, bundle.manifest, compute_capabilities=(89,))
    own = write_engine_set(bundle.path, bundle.manifest, compute_capabilities=(86,))
    assert set(read_engine_sets(bundle.path)) == {shared, other, own}
    assert find_engine_set(bundle, "1.7.1", 120) == shared
    assert find_engine_set(bundle, "1.7.1", 86) == own
    assert own.folder == "tensorrt_rtx-1.7.1-sm86"
    assert shared.folder == "tensorrt_rtx-1.7.1-sm86+120"
    assert own.file_of("decoder").file == "decoder.engine"


def test_why_no_set_fits_is_told_of_each(bundle):
    write_engine_set(bundle.path, bundle.manifest, compute_capabilities=(89,))
    write_engine_set(bundle.path, bundle.manifest, version="2.0.0")
    write_engine_set(bundle.path, bundle.manifest, version="1.7.0")
    write_engine_set(bundle.path, bundle.manifest, backend="tensorrt")
    text = refusal(bundle)
    assert "tensorrt_rtx-1.7.1-sm89 is for SM 89, this GPU is SM 86" in text
    assert "sm86+120 was built with 2.0.0, another major version than the installed 1.7.1" in text
    assert "was built with 1.7.0, another version than the installed 1.7.1" in text
    assert "is of tensorrt, the bundle wants tensorrt_rtx" in text


def test_engines_of_other_graphs_are_not_used(bundle):
    write_engine_set(bundle.path, bundle.manifest, manifest_digest="0" * 64)
    assert "built from other graphs or weights" in refusal(bundle)


def test_a_set_whose_file_is_missing_or_short_is_not_used(bundle):
    engines = write_engine_set(bundle.path, bundle.manifest)
    (bundle.path / ENGINES / engines.folder / "decoder.engine").write_bytes(b"short")
    assert "lacks decoder.engine, or it is damaged" in refusal(bundle)


def test_the_digest_covers_graphs_and_weights_and_not_the_tokenizer(bundle):
    root, digest = bundle.path, manifest_digest(bundle.manifest)
    (root / "tokenizer.json").write_text('{"other": 1}')
    (root / "verify").mkdir()
    (root / "verify" / "report.json").write_text("{}")
    assert manifest_digest(seal(root, bundle.manifest)) == digest
    (root / "weights" / "decoder.bin").write_bytes(b"other weights")
    assert manifest_digest(seal(root, bundle.manifest)) != digest
    other = replace(bundle.manifest.graphs["decoder"], spec=bundle.manifest.graphs["vision_toy"].spec)
    assert manifest_digest(replace(bundle.manifest, graphs={**bundle.manifest.graphs, "decoder": other})) != digest
    changed = (*bundle.manifest.files, FileEntry("weights/more.bin", 1, "0" * 64))
    assert manifest_digest(replace(bundle.manifest, files=changed)) != digest


def test_a_checked_bundle_may_hold_whole_sets_and_an_interrupted_build(bundle):
    write_engine_set(bundle.path, bundle.manifest)
    staging = bundle.path / ENGINES / ".building-tensorrt_rtx-1.7.1-sm89"
    staging.mkdir()
    (staging / "decoder.engine").write_bytes(b"half")
    (bundle.path / ENGINES / ".building.lock").write_text("1")
    assert open_bundle(bundle.path, check=True).manifest == bundle.manifest


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("{set}/decoder.engine", b"engine of dEcoder", "decoder.engine (missing or damaged)"),
        ("{set}/decoder.engine", None, "decoder.engine (missing or damaged)"),
        ("{set}/more.engine", b"?", "more.engine (not listed)"),
        ("{set}/engines.json", b"{}", "damaged"),
        ("{set}/engines.json", None, "cannot be read"),
        ("loose.engine", b"?", "not listed in its manifest"),
        ("unlisted/decoder.engine", b"?", "cannot be read"),
    ],
)
def test_a_checked_bundle_refuses_engines_that_are_damaged_or_unlisted(bundle, name, content, said):
    engines = write_engine_set(bundle.path, bundle.manifest)
    path = bundle.path / ENGINES / name.format(set=engines.folder)
    path.parent.mkdir(exist_ok=True)
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    open_bundle(bundle.path)
    with pytest.raises(BundleError) as caught:
        open_bundle(bundle.path, check=True)
    assert said in str(caught.value)


@pytest.mark.parametrize("name", ["../../tokenizer.json", "a/b.engine", "decoder.onnx", ""])
def test_an_index_that_leads_out_of_its_folder_is_refused(bundle, name):
    engines = write_engine_set(bundle.path, bundle.manifest)
    file = bundle.path / ENGINES / engines.folder / INDEX
    data = json.loads(file.read_bytes())
    del data["digest"]
    data["files"][0]["file"] = name
    file.write_bytes(sealed(data))
    with pytest.raises(BundleError, match="does not belong here"):
        read_engine_sets(bundle.path)


def test_an_index_of_another_folder_or_a_newer_runtime_is_refused(bundle):
    engines = write_engine_set(bundle.path, bundle.manifest)
    folder = bundle.path / ENGINES / engines.folder
    file = folder / INDEX
    data = json.loads(file.read_bytes())
    del data["digest"]
    file.write_bytes(sealed({**data, "schema_version": 99}))
    with pytest.raises(BundleError, match="newer stts-runtime"):
        read_engine_sets(bundle.path)
    file.write_bytes(sealed(data))
    folder.rename(folder.with_name("tensorrt_rtx-1.7.1-sm75"))
    with pytest.raises(BundleError, match=r"it is for tensorrt_rtx-1\.7\.1-sm86\+120"):
        read_engine_sets(bundle.path)


def test_a_file_that_is_no_folder_of_engines_is_not_read(bundle):
    (bundle.path / ENGINES).mkdir()
    (bundle.path / ENGINES / "note.txt").write_text("?")
    assert read_engine_sets(bundle.path) == ()
