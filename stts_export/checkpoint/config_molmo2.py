"""The configuration of a Molmo2 checkpoint, in transformers' present and the released files' spellings."""

from __future__ import annotations

from pathlib import Path

from stts_export.checkpoint.hub import model_name
from stts_export.checkpoint.json_file import MOST_BLOCKS, TIED, Table, beside, demand
from stts_export.checkpoint.layouts import is_scorer
from stts_export.checkpoint.molmo2_images import cropping_of, with_image_tokens
from stts_export.checkpoint.shards import stored_names
from stts_export.checkpoint.token_ids import MOLMO2, OLMO, tokens_from_files
from stts_export.errors import CheckpointError
from stts_export.recipe.config import DecoderConfig, ModelConfig, ScorerConfig, TowerConfig, Yarn
from stts_runtime.bundle.manifest import FrameSampling, Grid, Prompt


_PROMPT = Prompt(
    system="{video}",  # Molmo2 puts the video before the first role header
    user="<|im_start|>user\n{content}<|im_end|>\n",
    assistant="<|im_start|>assistant\n",
    turn_end="<|im_end|>\n",
)
_QUERY_KEY_NORMS = {"qwen3": "head", "olmo": "full"}
_TOKENS = {"qwen3": MOLMO2, "olmo": OLMO}


def molmo2_config(config: Table, folder: Path, score_after: int) -> ModelConfig:
    """Return the configuration of the Molmo2 checkpoint in `folder`, whose config.json is `config`.

    A trained scorer among the weights makes the model a pruned one with the authors' settings.
    """
    vision, adapter = config.table("vision_config", "vit_config"), config.table("adapter_config")
    text = config.table("text_config")
    pruned = any(is_scorer(name) for name in stored_names(folder))
    tokens = tokens_from_files(config, _TOKENS[_kind(text)], folder, _PROMPT)
    return ModelConfig(
        name=model_name(folder),
        grid=_grid(vision, folder),
        tower=_tower(vision, adapter, score_after),
        scorer=ScorerConfig(kind="learned" if pruned else "none", soft_bias=pruned),
        decoder=_decoder(text, config, adapter),
        tokens=with_image_tokens(tokens, config, folder),
        prompt=_PROMPT,
        frame_sampling=_sampling(folder, pruned),
        image=cropping_of(folder),
    )


def _grid(vision: Table, folder: Path) -> Grid:
    size = vision.wholes("image_size", "image_default_input_size", default=(378, 378), least=1)
    patch = vision.whole("patch_size", "image_patch_size", default=14, least=1)
    patches = (size[0] // patch) ** 2
    demand(vision, "image_size", size, [size[0], size[0]])
    demand(vision, "image_num_pos", vision.whole("num_position_embeddings", "image_num_pos", default=patches), patches)
    pool = beside(folder, "video_preprocessor_config.json").wholes("pooling_size", default=(3, 3), least=1)
    return Grid(image_size=size[0], patch_size=patch, pool=pool[0])


def _tower(vision: Table, adapter: Table, score_after: int) -> TowerConfig:
    width, heads = vision.whole("hidden_size"), vision.whole("num_attention_heads", least=1)
    demand(vision, "hidden_act", vision.get("hidden_act", default="gelu_pytorch_tanh"), "gelu_pytorch_tanh")
    demand(vision, "num_key_value_heads", vision.whole("num_key_value_heads", default=heads), heads)
    demand(vision, "head_dim * heads", vision.whole("head_dim", default=width // heads) * heads, width)
    demand(adapter, "hidden_size", adapter.whole("hidden_size"), width)
    demand(adapter, "num_attention_heads", adapter.whole("num_attention_heads"), heads)
    declared = vision.whole("num_hidden_layers", most=MOST_BLOCKS)
    taps = adapter.wholes("vision_feature_layer", "vit_layers", default=(24, 18))
    taps = [tap if tap >= 0 else declared + tap for tap in taps]
    if not all(0 <= tap < declared for tap in taps):
        raise CheckpointError(f"{adapter.where}: vision_feature_layer is {taps}; wanted blocks below {declared}")
    return TowerConfig(
        width=width,
        heads=heads,
        mlp_width=vision.whole("intermediate_size"),
        blocks=max(taps, default=-1) + 1,  # released files declare two more than they hold; nothing reads those
        taps=tuple(taps),
        score_after=score_after,
        epsilon=vision.number("layer_norm_eps", default=1e-6),
    )


def _decoder(text: Table, config: Table, adapter: Table) -> DecoderConfig:
    width, heads = text.whole("hidden_size"), text.whole("num_attention_heads", least=1)
    layers, mlp_width = text.whole("num_hidden_layers", most=MOST_BLOCKS), text.whole("intermediate_size")
    demand(text, "hidden_act", text.get("hidden_act", default="silu"), "silu")
    demand(adapter, "intermediate_size", adapter.whole("intermediate_size"), mlp_width)
    demand(adapter, "text_hidden_size", adapter.whole("text_hidden_size"), width)
    scaling = {**text.table("rope_scaling", default={}).values, **text.table("rope_parameters", default={}).values}
    rope = Table(scaling, f"{text.where}: rope_parameters")
    return DecoderConfig(
        layers=layers,
        width=width,
        heads=heads,
        kv_heads=text.whole("num_key_value_heads", default=heads),
        head_dim=text.whole("head_dim", default=width // heads),
        mlp_width=mlp_width,
        vocabulary=text.whole("vocab_size"),
        extra_vocabulary=text.whole("additional_vocab_size", default=128),
        query_key_norm=_QUERY_KEY_NORMS[_kind(text)] if text.truth("use_qk_norm", default=True) else "none",
        block_norm="post" if text.truth("norm_after", default=False) else "pre",
        tied_embedding=config.truth(TIED, default=text.truth(TIED, default=False)),
        rope_theta=rope.number("rope_theta") if "rope_theta" in scaling else text.number("rope_theta"),
        yarn=_yarn(text, rope, layers),
        epsilon=text.number("rms_norm_eps", "layer_norm_eps", default=1e-6),
        attention_bias=text.truth("attention_bias", "qkv_bias", default=False),
        max_positions=text.whole("max_position_embeddings", default=36864),
    )


def _kind(text: Table) -> str:
    kind = text.get("qk_norm_type", default="qwen3")
    if not isinstance(kind, str) or kind not in _QUERY_KEY_NORMS:
        raise CheckpointError(f"{text.where}: qk_norm_type is {kind!r}; wanted one of {', '.join(_QUERY_KEY_NORMS)}")
    return str(kind)


def _yarn(text: Table, rope: Table, layers: int) -> Yarn | None:
    kind = rope.get("rope_type", "type", default="default")
    if kind == "default":
        return None
    demand(rope, "rope_type", kind, "yarn")
    factor = rope.get("attention_factor", default=None)
    return Yarn(
        factor=rope.number("factor"),
        original_max_positions=rope.whole("original_max_position_embeddings"),
        beta_fast=rope.number("beta_fast", default=32.0),
        beta_slow=rope.number("beta_slow", default=1.0),
        attention_factor=None if factor is None else rope.number("attention_factor"),
        layers=tuple(text.wholes("rope_scaling_layers", default=range(layers))),
    )


def _sampling(folder: Path, pruned: bool) -> FrameSampling:
    if pruned:
        return FrameSampling(method="uniform_last_frame", max_frames=128, max_fps=2.0)
    processor = beside(folder, "video_preprocessor_config.json")
    method = processor.get("frame_sample_mode", default="uniform")
    return FrameSampling(
        method="uniform_last_frame" if method == "uniform_last_frame" else "uniform",
        max_frames=processor.whole("num_frames", default=64),
        max_fps=processor.number("max_fps", default=2),
    )
