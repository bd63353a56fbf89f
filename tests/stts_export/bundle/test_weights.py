import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch

from stts_export.bundle.weights import ALIGNMENT, AS_IS, TRANSPOSED, WeightWriter
from stts_export.checkpoint.records import LazyTensor
from stts_export.errors import CheckpointError, ExportError


def lazy(tensor, shape=None, reads=None):
    def load():
        if reads is not None:
            reads.append(1)
        return tensor

    return LazyTensor(tuple(tensor.shape) if shape is None else shape, tensor.dtype, "test", load)


def stored(root, slot):
    content = (root / slot.file).read_bytes()[slot.offset : slot.offset + slot.length]
    return np.frombuffer(content, np.dtype(slot.dtype).newbyteorder("<")).reshape(slot.shape)


@pytest.fixture
def matrix():
    return torch.arange(35, dtype=torch.float32).reshape(5, 7) / 3


@pytest.mark.parametrize("piece_bytes", [1, 64, 64 << 20])
def test_tensors_come_back_as_they_were_or_transposed_however_they_were_cut(tmp_path, matrix, piece_bytes):
    deep = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))
    with WeightWriter(tmp_path, piece_bytes) as writer:
        writer.add("decoder.a.weight", AS_IS, lazy(matrix))
        writer.add("decoder.a.weight", TRANSPOSED, lazy(matrix))
        writer.add("decoder.deep", AS_IS, lazy(deep))
        writer.add("decoder.view", AS_IS, lazy(matrix.T))
        writer.add("decoder.scalar", AS_IS, lazy(torch.tensor(2.5)))
        writer.add("decoder.none", AS_IS, lazy(torch.empty(0, 4)))
    slots = writer.slots
    np.testing.assert_array_equal(stored(tmp_path, slots["decoder.a.weight", AS_IS, "float32"]), matrix)
    np.testing.assert_array_equal(stored(tmp_path, slots["decoder.a.weight", TRANSPOSED, "float32"]), matrix.T)
    np.testing.assert_array_equal(stored(tmp_path, slots["decoder.deep", AS_IS, "float32"]), deep)
    np.testing.assert_array_equal(stored(tmp_path, slots["decoder.view", AS_IS, "float32"]), matrix.T)
    assert stored(tmp_path, slots["decoder.scalar", AS_IS, "float32"]) == 2.5
    assert slots["decoder.none", AS_IS, "float32"].length == 0


def test_each_group_has_its_file_and_tensors_start_on_a_page(tmp_path, matrix):
    with WeightWriter(tmp_path) as writer:
        for name in ("decoder.a", "decoder.b", "vision_tower.a", "decoder.c"):
            writer.add(name, AS_IS, lazy(matrix))
    assert sorted(path.name for path in (tmp_path / "weights").iterdir()) == ["decoder.bin", "vision_tower.bin"]
    slots = list(writer.slots.values())
    assert [slot.file for slot in slots[1:3]] == ["weights/decoder.bin", "weights/vision_tower.bin"]
    assert [slot.offset for slot in slots] == [0, ALIGNMENT, 0, 2 * ALIGNMENT]
    assert {slot.length for slot in slots} == {140}


def test_a_weight_that_two_graphs_use_is_read_and_stored_once(tmp_path, matrix):
    reads = []
    with WeightWriter(tmp_path) as writer:
        first = writer.add("decoder.a", AS_IS, lazy(matrix, reads=reads))
        again = writer.add("decoder.a", AS_IS, lazy(matrix, reads=reads))
    assert first is again
    assert len(reads) == 1
    assert (tmp_path / first.file).stat().st_size == 140


def test_the_same_tensors_give_the_same_bytes(tmp_path, matrix):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        with WeightWriter(tmp_path / name) as writer:
            writer.add("decoder.a", AS_IS, lazy(matrix))
            writer.add("decoder.b", TRANSPOSED, lazy(matrix))
    one, two = ((tmp_path / name / "weights/decoder.bin").read_bytes() for name in ("one", "two"))
    assert one == two


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes_are_stored_as_float32(tmp_path, matrix, dtype):
    with WeightWriter(tmp_path) as writer:
        slot = writer.add("decoder.a", TRANSPOSED, lazy(matrix.to(dtype)))
    np.testing.assert_array_equal(stored(tmp_path, slot), matrix.to(dtype).float().T)


def test_a_narrower_dtype_is_stored_when_values_fit_and_refused_by_name_when_not(tmp_path, matrix):
    with WeightWriter(tmp_path) as writer:
        slot = writer.add("decoder.a", AS_IS, lazy(matrix), "float16")
        with pytest.raises(ExportError, match=r"decoder.b: values up to 3.33e\+06 do not fit float16: use float32"):
            writer.add("decoder.b", AS_IS, lazy(matrix * 294118), "float16")
    assert (slot.dtype, slot.length) == ("float16", 70)
    np.testing.assert_array_equal(stored(tmp_path, slot), matrix.half())


def test_a_weight_wanted_in_two_precisions_is_stored_in_both(tmp_path, matrix):
    with WeightWriter(tmp_path) as writer:
        wide, narrow = (writer.add("decoder.a", AS_IS, lazy(matrix), dtype) for dtype in ("float32", "bfloat16"))
    np.testing.assert_array_equal(stored(tmp_path, wide), matrix)
    file, start = tmp_path / narrow.file, narrow.offset
    halves = np.frombuffer(file.read_bytes()[start : start + narrow.length], np.uint16)
    found = (halves.astype(np.uint32) << 16).view(np.float32).reshape(5, 7)
    np.testing.assert_array_equal(found, matrix.bfloat16().float())


def test_a_tensor_of_another_shape_than_announced_is_refused(tmp_path, matrix):
    with (
        WeightWriter(tmp_path) as writer,
        pytest.raises(CheckpointError, match=r"decoder.a: wanted shape \(7, 5\), got \(5, 7\)"),
    ):
        writer.add("decoder.a", AS_IS, lazy(matrix, shape=(7, 5)))


def test_only_a_matrix_can_be_transposed(tmp_path, matrix):
    with WeightWriter(tmp_path) as writer, pytest.raises(ValueError, match="no transform 'transposed'"):
        writer.add("decoder.a", TRANSPOSED, lazy(matrix[0]))


def test_transposing_a_large_matrix_takes_little_more_memory_than_the_matrix(tmp_path):
    script = textwrap.dedent("""
        import resource, sys
        from pathlib import Path
        import torch
        from stts_export.bundle.weights import WeightWriter
        from stts_export.checkpoint.records import LazyTensor
        torch.set_num_threads(1)
        peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        make = lambda: torch.zeros(24000, 2560, dtype=torch.bfloat16).fill_(1.0)
        before = peak()
        with WeightWriter(Path(sys.argv[1])) as writer:
            writer.add("decoder.head", "transposed", LazyTensor((24000, 2560), torch.bfloat16, "test", make))
        print(peak() - before)
    """)
    done = subprocess.run([sys.executable, "-c", script, tmp_path], check=True, capture_output=True, text=True)
    matrix_kib = 24000 * 2560 * 2 / 1024
    piece_kib = 64 * 1024
    unit = 1 if sys.platform == "linux" else 1024  # ru_maxrss is in KiB on Linux, in bytes on macOS
    assert int(done.stdout) / unit < matrix_kib + 3.5 * piece_kib
    assert (tmp_path / "weights" / "decoder.bin").stat().st_size == 24000 * 2560 * 4


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("transform", [AS_IS, TRANSPOSED])
def test_a_value_that_is_no_number_is_refused_by_its_tensor(tmp_path, matrix, transform, value, dtype):
    matrix[4, 6] = value
    with (
        WeightWriter(tmp_path, piece_bytes=64) as writer,
        pytest.raises(CheckpointError, match=r"test \(our decoder\.a\): 1 of \d+"),
    ):
        writer.add("decoder.a", transform, lazy(matrix), dtype)
