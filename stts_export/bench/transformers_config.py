"""Our configuration as transformers' own."""

from __future__ import annotations

from typing import Any

from stts_export.recipe.config import DecoderConfig, ModelConfig
from stts_runtime.errors import UsageError


_MOLMO2_NORMS = {"head": "qwen3", "full": "olmo"}  # our query_key_norm -> transformers' qk_norm_type


def is_llama(decoder: DecoderConfig) -> bool:
    """Return whether transformers runs this decoder as a Llama; else it is a Molmo2's.

    Raises:
        UsageError: it is neither.
    """
    if decoder.query_key_norm in _MOLMO2_NORMS:
        return False
    if decoder.block_norm == "pre" and not decoder.attention_bias:
        return True
    raise UsageError(
        "transformers has no such decoder to compare with: without a norm of queries and keys it would be a Llama, "
        "whose blocks norm their inputs and whose projections have no bias"
    )


def molmo2_config(config: ModelConfig) -> Any:
    """Return a Molmo2Config; its text part is only of use where the decoder is not a Llama."""
    from transformers.models.molmo2.configuration_molmo2 import (
        Molmo2AdapterConfig,
        Molmo2Config,
        Molmo2TextConfig,
        Molmo2VisionConfig,
    )

    tower, grid, decoder, tokens = config.tower, config.grid, config.decoder, config.tokens
    attention = {
        "hidden_size": tower.width,
        "num_attention_heads": tower.heads,
        "num_key_value_heads": tower.heads,
        "head_dim": tower.width // tower.heads,
    }
    vision = Molmo2VisionConfig(
        **attention,
        intermediate_size=tower.mlp_width,
        num_hidden_layers=tower.blocks,
        layer_norm_eps=tower.epsilon,
        image_size=list(grid.size),
        patch_size=grid.patch_size,
    )
    adapter = Molmo2AdapterConfig(
        **attention,
        vision_feature_layer=list(tower.taps),
        intermediate_size=decoder.mlp_width,
        text_hidden_size=decoder.width,
    )
    text = Molmo2TextConfig(
        **_text_sizes(decoder),
        vocab_size=decoder.vocabulary,
        additional_vocab_size=decoder.extra_vocabulary,
        attention_bias=decoder.attention_bias,
        qk_norm_type=_MOLMO2_NORMS.get(decoder.query_key_norm, "qwen3"),
        rope_scaling_layers=list(decoder.yarn.layers) if decoder.yarn and decoder.yarn.layers else None,
        norm_after=decoder.block_norm == "post",
    )
    return Molmo2Config(
        vision_config=vision,
        adapter_config=adapter,
        text_config=text,
        image_patch_id=tokens.image_patch,
        frame_start_token_id=tokens.frame_start,
        frame_end_token_id=tokens.frame_end,
    )


def llama_config(decoder: DecoderConfig) -> Any:
    """Return a LlamaConfig; the rows that only our input embedding has count as vocabulary, the head is set apart."""
    from transformers import LlamaConfig

    vocabulary = decoder.vocabulary + decoder.extra_vocabulary
    return LlamaConfig(**_text_sizes(decoder), vocab_size=vocabulary, tie_word_embeddings=False)


def _text_sizes(decoder: DecoderConfig) -> dict[str, Any]:
    return {
        "hidden_size": decoder.width,
        "num_attention_heads": decoder.heads,
        "num_key_value_heads": decoder.kv_heads,
        "head_dim": decoder.head_dim,
        "num_hidden_layers": decoder.layers,
        "intermediate_size": decoder.mlp_width,
        "max_position_embeddings": decoder.max_positions,
        "rope_parameters": _rope_parameters(decoder),
        "rms_norm_eps": decoder.epsilon,
    }


def _rope_parameters(decoder: DecoderConfig) -> dict[str, Any]:
    if decoder.yarn is None:
        return {"rope_type": "default", "rope_theta": decoder.rope_theta}
    return {
        "rope_type": "yarn",
        "rope_theta": decoder.rope_theta,
        "factor": decoder.yarn.factor,
        "original_max_position_embeddings": decoder.yarn.original_max_positions,
        "beta_fast": decoder.yarn.beta_fast,
        "beta_slow": decoder.yarn.beta_slow,
        "attention_factor": decoder.yarn.attention_factor,
    }
