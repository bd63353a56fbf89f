"""Toy Molmo2 models of `molmo2_sizes`, built by transformers.

The Qwen3 and Olmo-3 kinds are whole transformers models. The Llama kind is not known there as Molmo2, so it is
transformers' tower and adapter followed by its LlamaForCausalLM, fed with embeddings and a 4-D mask.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM
from transformers.models.molmo2.configuration_molmo2 import (
    Molmo2AdapterConfig,
    Molmo2Config,
    Molmo2TextConfig,
    Molmo2VisionConfig,
)
from transformers.models.molmo2.image_processing_molmo2 import Molmo2ImageProcessor
from transformers.models.molmo2.modeling_molmo2 import (
    Molmo2Adapter,
    Molmo2ForConditionalGeneration,
    Molmo2VisionModel,
)

from reference.molmo2_sizes import CROPPING, DECODERS, GRID, TOKENS, TOWER, VOCABULARY
from stts_export.bench.torch_subject import torch_threads
from stts_export.recipe.config import DecoderConfig


def vision_config() -> Molmo2VisionConfig:
    return Molmo2VisionConfig(
        hidden_size=TOWER.width,
        intermediate_size=TOWER.mlp_width,
        num_hidden_layers=TOWER.blocks,
        num_attention_heads=TOWER.heads,
        num_key_value_heads=TOWER.heads,
        head_dim=TOWER.width // TOWER.heads,
        layer_norm_eps=TOWER.epsilon,
        image_size=[GRID.image_size, GRID.image_size],
        patch_size=GRID.patch_size,
    )


def adapter_config(decoder: DecoderConfig) -> Molmo2AdapterConfig:
    return Molmo2AdapterConfig(
        vision_feature_layer=list(TOWER.taps),
        hidden_size=TOWER.width,
        num_attention_heads=TOWER.heads,
        num_key_value_heads=TOWER.heads,
        head_dim=TOWER.width // TOWER.heads,
        intermediate_size=decoder.mlp_width,
        text_hidden_size=decoder.width,
    )


def rope_parameters(decoder: DecoderConfig) -> dict[str, object]:
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


def text_config(decoder: DecoderConfig) -> Molmo2TextConfig:
    return Molmo2TextConfig(
        hidden_size=decoder.width,
        num_attention_heads=decoder.heads,
        num_key_value_heads=decoder.kv_heads,
        head_dim=decoder.head_dim,
        vocab_size=decoder.vocabulary,
        additional_vocab_size=decoder.extra_vocabulary,
        attention_bias=decoder.attention_bias,
        qk_norm_type={"head": "qwen3", "full": "olmo"}[decoder.query_key_norm],
        num_hidden_layers=decoder.layers,
        intermediate_size=decoder.mlp_width,
        max_position_embeddings=decoder.max_positions,
        rope_parameters=rope_parameters(decoder),
        rope_scaling_layers=list(decoder.yarn.layers) if decoder.yarn and decoder.yarn.layers else None,
        rms_norm_eps=decoder.epsilon,
        norm_after=decoder.block_norm == "post",
    )


def llama_config(decoder: DecoderConfig) -> LlamaConfig:
    return LlamaConfig(
        hidden_size=decoder.width,
        num_attention_heads=decoder.heads,
        num_key_value_heads=decoder.kv_heads,
        head_dim=decoder.head_dim,
        # Llama has no rows that only the input embedding has: the head's extra columns are cut off below
        vocab_size=decoder.vocabulary + decoder.extra_vocabulary,
        num_hidden_layers=decoder.layers,
        intermediate_size=decoder.mlp_width,
        max_position_embeddings=decoder.max_positions,
        rope_parameters=rope_parameters(decoder),
        rms_norm_eps=decoder.epsilon,
        tie_word_embeddings=True,
    )


def randomise(model: nn.Module, seed: int) -> None:
    """Draw weights such that every one of them shows in the output; under transformers' own draw hardly any does.

    The language model's branches outweigh its embeddings, so that greedy answers do not just repeat a token, and
    features are as large as embeddings.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.dim() == 1:
            drawn = 0.1 * noise if name.endswith("bias") else 1.0 + 0.2 * noise
        elif "embed_tokens" in name or "positional_embedding" in name:
            drawn = 0.3 * noise
        else:
            gain = 2.0 if "self_attn" in name or "mlp" in name else 1.0
            vision = "vision" in name or "projector" in name
            drawn = (0.7 if vision else gain) * noise / parameter.shape[1] ** 0.5
        parameter.data.copy_(drawn)


def pooling_indices(frames: int) -> Tensor:
    """Return int64 [T * G, pool * pool]: which flattened patches make each group, groups in raster order."""
    side, pool = GRID.group_rows, GRID.pool
    patches = torch.arange(frames * GRID.patches).reshape(frames, side, pool, side, pool)
    return patches.transpose(2, 3).reshape(frames * GRID.groups, pool * pool)


def video_token_ids(frames: int, seed: int = 0, text: int = 6) -> Tensor:
    """Return int64 [1, S]: some text, then each frame's timestamp, markers and placeholders, then `text` tokens."""
    generator = torch.Generator().manual_seed(seed)

    def words(count: int) -> list[int]:
        return torch.randint(3, VOCABULARY, (count,), generator=generator).tolist()

    ids = [TOKENS.bos, *words(3)]
    for _ in range(frames):
        ids += [*words(2), TOKENS.frame_start, *[TOKENS.image_patch] * GRID.groups, TOKENS.frame_end]
    return torch.tensor([ids + words(text)])


def video_patches(frames: int, seed: int = 0) -> Tensor:
    """Return float32 [T, N, 3 * patch * patch], normalised pixels of `frames` random frames."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(frames, GRID.patches, 3 * GRID.patch_size**2, generator=generator) * 2 - 1


@dataclass(frozen=True)
class ImagePrompt:
    """Images as transformers' own processor makes them, and a prompt about them."""

    token_ids: Tensor  # int64 [1, S]
    inputs: dict[str, Tensor]  # pixels and which of them make a group, as the model takes them


def image_prompt(pictures: list[np.ndarray], seed: int = 0, text: int = 6) -> ImagePrompt:
    """Return a prompt about pictures uint8 [H, W, 3]: some text, the images, `text` tokens."""
    processor = Molmo2ImageProcessor(
        max_crops=CROPPING.max_crops,
        overlap_margins=list(CROPPING.overlap),
        pooling_size=[CROPPING.pool, CROPPING.pool],
        size={"height": GRID.image_size, "width": GRID.image_size},
    )
    with torch_threads(2):  # on one thread torch resizes by another kernel, which rounds otherwise
        out = processor(images=pictures, return_tensors="pt", input_data_format="channels_last")
    generator = torch.Generator().manual_seed(seed)
    words = torch.randint(3, VOCABULARY, (3 + text,), generator=generator).tolist()
    ids = [TOKENS.bos, *words[:3]]
    for low_rows, low_columns, rows, columns in out["image_grids"].tolist():
        ids += [TOKENS.low_res_image_start, *[TOKENS.image_patch] * (low_rows * low_columns), TOKENS.image_end]
        row = [*[TOKENS.image_patch] * columns, TOKENS.image_column]
        ids += [TOKENS.image_start, *row * rows, TOKENS.image_end]
    return ImagePrompt(torch.tensor([ids + words[3:]]), dict(out))


def vision_flags(token_ids: Tensor) -> Tensor:
    """Return bool [S], which tokens of [1, S] are vision tokens."""
    return torch.isin(token_ids[0], torch.tensor(TOKENS.vision))


class Reference(Protocol):
    """A toy model as transformers computes it, densely; `token_ids` [1, S], `patches` [T, N, 588]."""

    def features(self, patches: Tensor) -> Tensor:
        """Image features [T * G, d_model]."""

    def logits(self, token_ids: Tensor, patches: Tensor) -> Tensor:
        """Logits of every position [S, vocabulary]."""

    def greedy(self, token_ids: Tensor, patches: Tensor, count: int) -> list[int]:
        """The next `count` tokens, whatever they are."""

    def save(self, path: Path, original: bool = False) -> None:
        """Write a checkpoint, in the released files' layout if `original` (Molmo2 kinds only)."""


@dataclass(frozen=True)
class Molmo2Reference:
    """A transformers Molmo2 model of the Qwen3 or Olmo-3 kind."""

    model: Molmo2ForConditionalGeneration

    def inputs(self, token_ids: Tensor, patches: Tensor) -> dict[str, Tensor]:
        frames, side = len(patches), GRID.group_rows
        return {
            "input_ids": token_ids,
            "pixel_values_videos": patches,
            "video_token_pooling": pooling_indices(frames),
            "video_grids": torch.tensor([[frames, side, side]]),
            "attention_mask": torch.ones_like(token_ids),
            # without these the mask is silently plain causal
            "mm_token_type_ids": vision_flags(token_ids).long()[None],
        }

    @torch.no_grad()
    def features(self, patches: Tensor) -> Tensor:
        frames, side = len(patches), GRID.group_rows
        grids = torch.tensor([[frames, side, side]])
        return torch.cat(self.model.get_video_features(patches, pooling_indices(frames), grids).pooler_output)

    @torch.no_grad()
    def logits(self, token_ids: Tensor, patches: Tensor) -> Tensor:
        return self.model(**self.inputs(token_ids, patches)).logits[0]

    @torch.no_grad()
    def greedy(self, token_ids: Tensor, patches: Tensor, count: int) -> list[int]:
        inputs = self.inputs(token_ids, patches)
        out = self.model.generate(**inputs, do_sample=False, max_new_tokens=count, min_new_tokens=count)
        return out[0, token_ids.shape[1] :].tolist()

    def image_inputs(self, prompt: ImagePrompt) -> dict[str, Tensor]:
        ids = prompt.token_ids
        flags = vision_flags(ids).long()[None]
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "mm_token_type_ids": flags, **prompt.inputs}

    @torch.no_grad()
    def image_features(self, prompt: ImagePrompt) -> Tensor:
        names = ("pixel_values", "image_token_pooling", "image_grids")
        return torch.cat(self.model.get_image_features(*(prompt.inputs[name] for name in names)).pooler_output)

    @torch.no_grad()
    def image_logits(self, prompt: ImagePrompt) -> Tensor:
        return self.model(**self.image_inputs(prompt)).logits[0]

    @torch.no_grad()
    def image_greedy(self, prompt: ImagePrompt, count: int) -> list[int]:
        inputs = self.image_inputs(prompt)
        out = self.model.generate(**inputs, do_sample=False, max_new_tokens=count, min_new_tokens=count)
        return out[0, prompt.token_ids.shape[1] :].tolist()

    def save(self, path: Path, original: bool = False) -> None:
        self.model.save_pretrained(path, save_original_format=original)


@dataclass(frozen=True)
class LlamaReference:
    """transformers' Molmo2 tower and adapter before its Llama."""

    tower: Molmo2VisionModel
    adapter: Molmo2Adapter
    llama: LlamaForCausalLM

    @torch.no_grad()
    def features(self, patches: Tensor) -> Tensor:
        states = self.tower(patches, output_hidden_states=True).hidden_states
        taps = torch.cat([states[tap + 1] for tap in TOWER.taps], dim=-1)
        return self.adapter(taps, pooling_indices(len(patches))).last_hidden_state

    def prefill(self, token_ids: Tensor, patches: Tensor, cache: DynamicCache) -> Tensor:
        embedded = self.llama.get_input_embeddings()(token_ids)
        embedded[token_ids == TOKENS.image_patch] += self.features(patches)
        flags = vision_flags(token_ids)
        allowed = torch.ones(len(flags), len(flags)).tril().bool() | (flags[:, None] & flags[None, :])
        mask = torch.where(allowed, 0.0, torch.finfo(torch.float32).min)[None, None]
        out = self.llama(inputs_embeds=embedded, attention_mask=mask, past_key_values=cache, use_cache=True)
        return out.logits[0, :, :VOCABULARY]

    @torch.no_grad()
    def logits(self, token_ids: Tensor, patches: Tensor) -> Tensor:
        return self.prefill(token_ids, patches, DynamicCache(config=self.llama.config))

    @torch.no_grad()
    def greedy(self, token_ids: Tensor, patches: Tensor, count: int) -> list[int]:
        cache = DynamicCache(config=self.llama.config)
        tokens = [int(self.prefill(token_ids, patches, cache)[-1].argmax())]
        while len(tokens) < count:
            out = self.llama(input_ids=torch.tensor([tokens[-1:]]), past_key_values=cache, use_cache=True)
            tokens.append(int(out.logits[0, -1, :VOCABULARY].argmax()))
        return tokens

    def save(self, path: Path, original: bool = False) -> None:
        if original:
            raise ValueError("the Llama kind has no released layout")
        path.mkdir(parents=True, exist_ok=True)
        # the native layout's names; the head is the embedding, so it is not stored
        owners = {
            "vision_tower": self.tower,
            "multi_modal_projector": self.adapter,
            "language_model": self.llama.model,
        }
        tensors = {
            f"model.{owner}.{name}": tensor
            for owner, module in owners.items()
            for name, tensor in module.state_dict().items()
        }
        save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})


def reference_model(kind: str, seed: int = 0) -> Reference:
    """Return the toy model of a kind, float32, with random weights that depend on `seed` only."""
    decoder = DECODERS[kind]
    if kind == "llama":
        tower, adapter = Molmo2VisionModel(vision_config()), Molmo2Adapter(adapter_config(decoder))
        llama = LlamaForCausalLM(llama_config(decoder))
        randomise(nn.ModuleDict({"vision_tower": tower, "projector": adapter, "llama": llama}).eval(), seed)
        return LlamaReference(tower, adapter, llama)
    config = Molmo2Config(
        vision_config=vision_config(),
        adapter_config=adapter_config(decoder),
        text_config=text_config(decoder),
        image_start_token_id=TOKENS.image_start,
        image_end_token_id=TOKENS.image_end,
        image_patch_id=TOKENS.image_patch,
        low_res_image_start_token_id=TOKENS.low_res_image_start,
        frame_start_token_id=TOKENS.frame_start,
        frame_end_token_id=TOKENS.frame_end,
    )
    model = Molmo2ForConditionalGeneration(config).eval()
    # answers must not end early, and greedy must mean greedy
    model.generation_config.eos_token_id = None
    randomise(model, seed)
    return Molmo2Reference(model)
