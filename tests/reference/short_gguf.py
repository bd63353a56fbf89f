"""A GGUF file with some of another's blocks and without its tokens, which take long to read and show no more."""

from collections.abc import Sequence
from pathlib import Path

import gguf


BLOCKS = "block_count"
LONG = 1000  # values; only the tokens, their types and their merges are as many


def write_short_gguf(file: Path, reader: gguf.GGUFReader, blocks: Sequence[int]) -> Path:
    """Write what `reader` reads, of its blocks only `blocks`, numbered anew, as they are stored; return the path."""
    arch = reader.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(file, arch)
    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key == "general.architecture" or len(field.data) > LONG:
            continue
        value = len(blocks) if key == f"{arch}.{BLOCKS}" else field.contents()
        writer.add_key_value(key, value, field.types[0], field.types[-1] if len(field.types) > 1 else None)
    numbers = {str(old): str(new) for new, old in enumerate(blocks)}
    for tensor in reader.tensors:
        kind, *rest = tensor.name.split(".")
        if kind == "blk":
            if rest[0] not in numbers:
                continue
            rest[0] = numbers[rest[0]]
        writer.add_tensor(".".join((kind, *rest)), tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file
