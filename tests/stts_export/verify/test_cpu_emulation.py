import os

from stts_export.verify import cpu_emulation


def test_where_links_cannot_be_made_weights_are_copied(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("another disk")

    (tmp_path / "one").write_bytes(b"weights")
    monkeypatch.setattr(os, "link", refuse)
    cpu_emulation.link_or_copy(tmp_path / "one", tmp_path / "two")
    assert (tmp_path / "two").read_bytes() == b"weights"
