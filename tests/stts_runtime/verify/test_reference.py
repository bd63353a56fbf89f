import json
from dataclasses import replace

import numpy as np
import pytest
from reference.engine_bundle import seal
from reference.small_reference import small_reference
from reference.toy_manifest import TOY_MANIFEST

from stts_runtime.bundle.open import open_bundle
from stts_runtime.errors import VerificationError
from stts_runtime.verify.reference import REFERENCE, Reference, read_reference, reference_of, write_reference


@pytest.fixture
def root(tmp_path):
    """A bundle that holds a reference."""
    for name in ("decoder.onnx", "tokenizer.json"):
        (tmp_path / name).write_bytes(b"anything")
    write_reference(tmp_path, small_reference())
    seal(tmp_path, TOY_MANIFEST)
    return tmp_path


def test_what_is_written_is_read_back(root):
    back, reference = reference_of(open_bundle(root)), small_reference()
    assert back.info == reference.info
    assert back.arrays.keys() == reference.arrays.keys()
    for name, array in reference.arrays.items():
        assert back.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(back.arrays[name], array)


def test_numpy_alone_can_read_it_and_nothing_in_it_is_pickled_or_dated(root):
    with np.load(root / REFERENCE, allow_pickle=False) as content:
        assert json.loads(content["info"].tobytes())["source"] == "torch, toy"
        assert {entry.date_time for entry in content.zip.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert {entry.compress_type for entry in content.zip.infolist()} == {0}


def test_a_missing_reference_says_what_to_do(tmp_path):
    with pytest.raises(VerificationError, match=r"built with --no-verify: `stts-export verify --checkpoint DIRECTORY`"):
        read_reference(tmp_path)


def test_the_reference_of_another_bundle_is_refused_even_if_it_is_as_large(root):
    other = small_reference()
    write_reference(root, Reference(other.info, {**other.arrays, "rows/2": np.array([1, 0])}))
    with pytest.raises(VerificationError, match="another bundle's"):
        reference_of(open_bundle(root))


def test_a_reference_in_a_bundle_that_was_built_without_is_refused(root):
    file = root / REFERENCE
    content = file.read_bytes()
    file.unlink()
    seal(root, TOY_MANIFEST)
    file.write_bytes(content)
    with pytest.raises(VerificationError, match=r"built without a reference, so this is another's"):
        reference_of(open_bundle(root))


@pytest.mark.parametrize("damage", [lambda content: content[:-100], lambda content: b"", lambda content: b"PK" * 99])
def test_a_truncated_or_strange_file_is_refused(root, damage):
    file = root / REFERENCE
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(VerificationError, match="damaged"):
        read_reference(root)


def test_a_reference_without_one_of_its_arrays_or_without_its_description_is_refused(tmp_path):
    reference = small_reference()
    write_reference(tmp_path, Reference(reference.info, {k: v for k, v in reference.arrays.items() if k != "rows/2"}))
    with pytest.raises(VerificationError, match="no array 'rows/2'"):
        read_reference(tmp_path)
    np.savez(tmp_path / REFERENCE, **reference.arrays)
    with pytest.raises(VerificationError, match="damaged"):
        read_reference(tmp_path)


def test_another_schema_is_refused(tmp_path):
    reference = small_reference()
    write_reference(tmp_path, replace(reference, info=replace(reference.info, schema=9)))
    with pytest.raises(VerificationError, match="schema 9"):
        read_reference(tmp_path)
