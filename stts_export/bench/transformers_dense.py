"""The dense work in transformers, with the same weights: what a bundle is to be faster than.

The Qwen3 and Olmo-3 kinds of decoder are transformers' Molmo2. It knows no Molmo2 of the Llama kind: there it is
Molmo2's vision tower and adapter before LlamaForCausalLM, fed with embeddings and a mask. Models with mergers are its
Qwen3-VL, see `transformers_qwen3_vl`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from accelerate import init_empty_weights
from numpy.typing import NDArray
from torch import Tensor, nn

from stts_export.bench.import_transformers import make_transformers_importable
from stts_export.bench.torch_subject import Task, torch_subject
from stts_export.bench.transformers_config import is_llama, llama_config, molmo2_config
from stts_export.bench.transformers_qwen3_vl import Qwen3VLReader, qwen3_vl_modules
from stts_export.checkpoint.layouts import layout_named, pieces_of
from stts_export.checkpoint.records import Checkpoint
from stts_export.models.vision import all_groups
from stts_export.recipe.config import MERGERS, ModelConfig
from stts_runtime.bench.compare import Subject


ENGINE = "transformers"

Mask = Callable[[Tensor], dict[str, Tensor]]
"""Vision flags of a whole prompt, bool [S] -> what tells a model that vision tokens see each other."""


def transformers_subject(config: ModelConfig, checkpoint: Checkpoint, task: Task) -> Subject:
    """Return transformers' model, dense; weights of a scorer are left out.

    Raises:
        UsageError: transformers has no such decoder.
    """
    make_transformers_importable()
    if config.tower.connector == MERGERS:
        model, look_at = qwen3_vl_modules(config, checkpoint)
        return torch_subject(ENGINE, 0.0, look_at, lambda: Qwen3VLReader(model, config), task)
    tower, adapter, language = (llama_modules if is_llama(config.decoder) else molmo2_modules)(config, checkpoint)
    mask = four_dimensional_mask if is_llama(config.decoder) else token_types
    grid, patch = config.grid, config.tokens.image_patch

    def look(patches: Tensor) -> tuple[Tensor, NDArray[np.bool_]]:
        states = tower(patches, output_hidden_states=True).hidden_states
        taps = torch.cat([states[tap + 1] for tap in config.tower.taps], dim=-1)
        pooling = torch.from_numpy(all_groups(len(patches), grid))
        return adapter(taps, pooling).last_hidden_state, np.ones((len(patches), grid.groups), bool)

    return torch_subject(ENGINE, 0.0, look, lambda: TransformersReader(language, patch, mask), task)


def molmo2_modules(config: ModelConfig, checkpoint: Checkpoint) -> tuple[nn.Module, nn.Module, nn.Module]:
    """Return tower, adapter and language model of one Molmo2."""
    from transformers.models.molmo2.modeling_molmo2 import Molmo2ForConditionalGeneration

    with init_empty_weights(include_buffers=False):
        whole = Molmo2ForConditionalGeneration(molmo2_config(config)).eval()
    inner = whole.model
    load_vision(inner.vision_tower, inner.multi_modal_projector, checkpoint)
    load_language(inner.language_model, whole.lm_head, config, checkpoint)
    return inner.vision_tower, inner.multi_modal_projector, whole


def llama_modules(config: ModelConfig, checkpoint: Checkpoint) -> tuple[nn.Module, nn.Module, nn.Module]:
    """Return Molmo2's tower and adapter, and a Llama."""
    from transformers import LlamaForCausalLM
    from transformers.models.molmo2.modeling_molmo2 import Molmo2Adapter, Molmo2VisionModel

    molmo2 = molmo2_config(config)
    with init_empty_weights(include_buffers=False):
        tower, adapter = Molmo2VisionModel(molmo2.vision_config).eval(), Molmo2Adapter(molmo2.adapter_config).eval()
        language = LlamaForCausalLM(llama_config(config.decoder)).eval()
    load_vision(tower, adapter, checkpoint)
    load_language(language.model, language.lm_head, config, checkpoint)
    return tower, adapter, language


def load_vision(tower: nn.Module, adapter: nn.Module, checkpoint: Checkpoint) -> None:
    """Give both their weights."""
    tower.load_state_dict(native_tensors("vision_tower.", checkpoint), assign=True)
    adapter.load_state_dict(native_tensors("multi_modal_projector.", checkpoint), assign=True)


def load_language(body: nn.Module, head: Any, config: ModelConfig, checkpoint: Checkpoint) -> None:
    """Give the decoder its weights; a tied head becomes the embedding's first rows, as in our decoder."""
    tensors = native_tensors("language_model.", checkpoint)
    body.load_state_dict(tensors, assign=True)
    if config.decoder.tied_embedding:
        weight = tensors["embed_tokens.weight"][: config.decoder.vocabulary]
    else:
        weight = checkpoint.tensors["decoder.head.weight"].read()
    head.weight = nn.Parameter(weight, requires_grad=False)


def native_tensors(owner: str, checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Return the tensors of one of transformers' modules, by its names for them."""
    layout = layout_named("native")
    found = {}
    for name, tensor in checkpoint.tensors.items():
        pieces = pieces_of(name, layout)
        if pieces and pieces[0].name.startswith(owner):
            found[pieces[0].name.removeprefix(owner)] = tensor.read()
    return found


def four_dimensional_mask(flags: Tensor) -> dict[str, Tensor]:
    """Return the mask that Llama takes as it is."""
    allowed = torch.ones(len(flags), len(flags), dtype=torch.bool).tril() | (flags[:, None] & flags[None, :])
    return {"attention_mask": torch.where(allowed, 0.0, torch.finfo(torch.float32).min)[None, None]}


def token_types(flags: Tensor) -> dict[str, Tensor]:
    """Return what Molmo2 makes its mask of; without token types it is plain causal, and says nothing."""
    types = flags.long()[None]
    return {"attention_mask": torch.ones_like(types), "mm_token_type_ids": types}


class TransformersReader:
    """A language model of transformers and its cache."""

    def __init__(self, model: Any, image_patch: int, mask: Mask) -> None:
        from transformers import DynamicCache

        self._model, self._image_patch, self._mask = model, image_patch, mask
        self._cache = DynamicCache(config=model.config)

    def read(
        self,
        token_ids: NDArray[np.int64],
        vision_flags: NDArray[np.bool_],
        features: NDArray[np.float32] | None = None,
        keep: NDArray[np.bool_] | None = None,
    ) -> NDArray[np.float32]:
        """Return the next token's logits, see `Reader`."""
        tokens = torch.from_numpy(token_ids)
        if features is None:
            inputs = {"input_ids": tokens[None]}
        else:
            embedded = self._model.get_input_embeddings()(tokens[None])
            embedded[0, tokens == self._image_patch] += torch.from_numpy(features)
            inputs = {"inputs_embeds": embedded, **self._mask(torch.from_numpy(vision_flags))}
        # the last position's logits are all that generation needs, here as in the bundle
        out = self._model(**inputs, past_key_values=self._cache, use_cache=True, logits_to_keep=1)
        return out.logits[0, -1].numpy()
