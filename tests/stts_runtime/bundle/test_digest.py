import contextlib
import hashlib

import pytest

from stts_runtime.bundle.digest import canonical, digest_of, sealed, sha256_of_file, unsealed


DATA = {"b": [1, 2.5, None], "a": {"text": "é"}}


def test_what_was_sealed_comes_back_unchanged():
    assert unsealed(sealed(DATA)) == (DATA, True)
    assert sealed(DATA) == sealed(dict(reversed(DATA.items())))
    assert digest_of(DATA) == hashlib.sha256(canonical(DATA)).hexdigest()


def test_any_changed_byte_is_found():
    content = sealed(DATA)
    for at in range(len(content)):
        changed = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
        try:
            unchanged = unsealed(changed)[1]
        except ValueError:
            unchanged = False
        assert not unchanged


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b"[" * 100_000, b"1"])
def test_what_is_no_sealed_document_is_a_value_error_or_changed(content):
    with contextlib.suppress(ValueError):
        assert not unsealed(content)[1]


def test_a_file_is_read_in_blocks(tmp_path):
    (tmp_path / "file").write_bytes(b"abc" * 1000)
    seen = []
    assert sha256_of_file(tmp_path / "file", seen.append) == hashlib.sha256(b"abc" * 1000).hexdigest()
    assert sum(seen) == 3000
