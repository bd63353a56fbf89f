import json
import re
from pathlib import Path

import pytest
import torch
from reference.panic import PanicException
from safetensors.torch import save_file

from stts_export.checkpoint.shards import open_shards
from stts_export.errors import CheckpointError


FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    save_file({"a": torch.arange(12.0).view(4, 3)}, tmp_path / FIRST)
    save_file({"b": torch.ones(2, 2), "c": torch.ones(5)}, tmp_path / SECOND)
    index = {"weight_map": {"a": FIRST, "b": SECOND, "c": SECOND}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    return tmp_path


def refused(path: Path, *said: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        open_shards(path)
    for part in said:
        assert part in str(caught.value)


def test_headers_are_read_and_rows_on_demand(sharded: Path) -> None:
    tensors = open_shards(sharded)
    assert {name: tensor.shape for name, tensor in tensors.items()} == {"a": (4, 3), "b": (2, 2), "c": (5,)}
    assert tensors["a"].load((1, 3)).tolist() == [[3, 4, 5], [6, 7, 8]]


def test_a_missing_shard_is_named(sharded: Path) -> None:
    (sharded / SECOND).unlink()
    refused(sharded, f"1 of 2 shards are missing: {SECOND}", "Download")


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b"], ids=["a long name", "a zero byte"])
def test_a_shard_whose_name_no_file_can_have_is_missing(sharded: Path, name: str) -> None:
    index = sharded / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": name}}))
    refused(sharded, "1 of 1 shards are missing", "Download")


def test_a_truncated_shard_is_named_whatever_is_left_of_it(sharded: Path) -> None:
    whole = (sharded / FIRST).read_bytes()
    for length in (0, 5, 40, len(whole) - 1):
        (sharded / FIRST).write_bytes(whole[:length])
        refused(sharded, f"{FIRST}: not a whole safetensors file", f"{length} bytes", "truncated or damaged")


def test_a_shard_that_the_index_does_not_know_is_named(sharded: Path) -> None:
    save_file({"d": torch.ones(1)}, sharded / "model-00003-of-00003.safetensors")
    refused(sharded, "shard model-00003-of-00003.safetensors is not in model.safetensors.index.json")


def test_a_tensor_that_the_index_promises_in_vain_is_named(sharded: Path) -> None:
    save_file({"b": torch.ones(2, 2)}, sharded / SECOND)
    refused(sharded, f"{SECOND}: tensor c is missing, though model.safetensors.index.json says it is there")


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"weight_map": 3}', '{"weight_map": {"a": 3}}'])
def test_a_damaged_index_is_named(sharded: Path, text: str) -> None:
    (sharded / "model.safetensors.index.json").write_text(text)
    refused(sharded, "model.safetensors.index.json: not a safetensors index", "Download it again")


def test_an_index_cannot_point_outside_its_folder(sharded: Path) -> None:
    index = {"weight_map": {"a": f"../{sharded.name}/{FIRST}"}}
    (sharded / "model.safetensors.index.json").write_text(json.dumps(index))
    refused(sharded, "not a safetensors index", "not a file name")


def test_shards_without_an_index_are_refused(sharded: Path) -> None:
    (sharded / "model.safetensors.index.json").unlink()
    refused(sharded, "2 shards", "no *.safetensors.index.json")


def test_several_files_without_an_index_are_refused(tmp_path: Path) -> None:
    for name in ("one", "two"):
        save_file({"a": torch.ones(1)}, tmp_path / f"{name}.safetensors")
    refused(tmp_path, "2 safetensors files and no index: one.safetensors, two.safetensors")


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, "no *.safetensors file")
    refused(tmp_path / "absent", "no such file or directory")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pth", "last.ckpt"])
def test_pickles_are_refused_with_a_way_to_convert_them_that_works(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save({"model": {"a": torch.ones(3)}}, tmp_path / name)
    refused(tmp_path, f"{name}: weights in pickle form are not opened")
    with pytest.raises(CheckpointError) as caught:
        open_shards(tmp_path / name)
    steps = re.findall(r"^  (.*)$", str(caught.value), re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    exec("\n".join(steps), {})  # the message's own lines
    assert open_shards(tmp_path)["a"].load().tolist() == [1, 1, 1]


def test_a_distributed_checkpoint_is_refused_with_its_converter(tmp_path: Path) -> None:
    (tmp_path / "__0_0.distcp").write_bytes(b"")
    refused(tmp_path, "dcp_to_torch")


@pytest.mark.parametrize("overlay", ["a-overlay.safetensors", "z-overlay.safetensors"])
def test_of_two_copies_of_a_tensor_the_one_that_the_index_names_counts(sharded: Path, overlay: str) -> None:
    save_file({"a": torch.zeros(4, 3)}, sharded / overlay)
    index = {"weight_map": {"a": overlay, "b": SECOND, "c": SECOND}}
    save_file({"a": torch.ones(4, 3), "b": torch.ones(2, 2), "c": torch.ones(5)}, sharded / SECOND)
    (sharded / FIRST).unlink()
    (sharded / "model.safetensors.index.json").write_text(json.dumps(index))
    tensor = open_shards(sharded)["a"]
    assert tensor.file.name == overlay
    assert not tensor.load().any()


def test_of_two_copies_that_no_index_names_neither_is_taken(sharded: Path) -> None:
    for shard, name in ((FIRST, "a"), (SECOND, "b")):
        save_file({name: torch.ones(1), "twice": torch.ones(1)}, sharded / shard)
    index = {"weight_map": {"a": FIRST, "b": SECOND}}
    (sharded / "model.safetensors.index.json").write_text(json.dumps(index))
    refused(sharded, f"tensor twice lies in {FIRST} and in {SECOND}", "does not say which counts")


def test_two_indices_are_refused_and_both_named(sharded: Path) -> None:
    index = (sharded / "model.safetensors.index.json").read_text()
    (sharded / "model.fp16.safetensors.index.json").write_text(index)
    refused(sharded, "2 indices: model.fp16.safetensors.index.json, model.safetensors.index.json", "keep the one")


def test_an_index_that_cannot_be_read_is_named(sharded: Path) -> None:
    index = sharded / "model.safetensors.index.json"
    index.write_text("[" * 50_000)
    refused(sharded, "not a safetensors index")
    index.unlink()
    index.mkdir()
    refused(sharded, "not a safetensors index")


class Panicking:
    """A safetensors file whose tensors cannot be reached without a panic."""

    def keys(self) -> list[str]:
        return ["a"]

    def get_slice(self, name: str) -> None:
        raise PanicException("index out of bounds")

    get_tensor = get_slice


def test_a_panic_of_the_library_names_the_file(sharded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensor = open_shards(sharded)["a"]
    monkeypatch.setattr("stts_export.checkpoint.shards._opened", lambda *key: Panicking())
    refused(sharded, f"{FIRST}: not a whole safetensors file (index out of bounds)")
    for rows in (None, (0, 1)):
        with pytest.raises(CheckpointError, match=rf"{FIRST}: not a whole safetensors file \(index out of bounds\)"):
            tensor.load(rows)

    def panic(*key: object) -> None:
        raise PanicException("index out of bounds")

    monkeypatch.setattr("stts_export.checkpoint.shards._opened", panic)
    refused(sharded, f"{FIRST}: not a whole safetensors file (index out of bounds)")
