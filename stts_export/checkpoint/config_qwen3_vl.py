"""The configuration of a Qwen3-VL checkpoint, as it was released and as transformers 5 writes it."""

from __future__ import annotations

from math import isqrt
from pathlib import Path

from stts_export.checkpoint.hub import model_name
from stts_export.checkpoint.json_file import MOST_BLOCKS, TIED, Table, beside, demand
from stts_export.checkpoint.token_ids import QWEN3_VL, tokens_from_files
from stts_export.errors import CheckpointError
from stts_export.recipe.config import MERGERS, DecoderConfig, ModelConfig, ScorerConfig, TowerConfig
from stts_runtime.bundle.manifest import BICUBIC, FrameSampling, Grid, Prompt
from stts_runtime.clip.smart_resize import SmartResize


IMAGE_SIZE = (288, 512)
"""Height and width of pictures where nobody says otherwise: 16 to 9 to the pixel, 144 tokens for two frames."""
CAPPED_TOKENS = 768
"""Most tokens a frame: what transformers and the authors' own code cap it at."""
PROMPT = Prompt(
    system="",
    user="<|im_start|>user\n{content}<|im_end|>\n",
    assistant="<|im_start|>assistant\n",
    turn_end="<|im_end|>\n",
    timestamp="<{time} seconds>",
    between_frames="",
)


def qwen3_vl_config(config: Table, folder: Path, score_after: int) -> ModelConfig:
    """Return the configuration of the Qwen3-VL checkpoint in `folder`, whose config.json is `config`; it is dense.

    Pictures are `IMAGE_SIZE` large; the model takes others too.
    """
    vision, text = config.table("vision_config"), config.table("text_config")
    processor = beside(folder, "video_preprocessor_config.json")
    return ModelConfig(
        name=model_name(folder),
        grid=_grid(vision),
        tower=_tower(vision, text, score_after),
        scorer=ScorerConfig(kind="none", soft_bias=False),
        decoder=_decoder(text, config),
        tokens=tokens_from_files(config, QWEN3_VL, folder, PROMPT),
        prompt=PROMPT,
        frame_sampling=FrameSampling(
            method="uniform_both_ends",
            max_frames=processor.whole("max_frames", default=768, least=1),
            max_fps=processor.number("fps", default=2),
            min_frames=processor.whole("min_frames", default=4, least=1),
        ),
        resize=_resize(processor),
    )


def _grid(vision: Table) -> Grid:
    demand(vision, "in_channels", vision.whole("in_channels", default=3), 3)
    return Grid(
        image_size=IMAGE_SIZE,
        patch_size=vision.whole("patch_size", default=16, least=1),
        pool=vision.whole("spatial_merge_size", default=2, least=1),
        frames=vision.whole("temporal_patch_size", default=2, least=1),
        resampling=BICUBIC,
    )


def _tower(vision: Table, text: Table, score_after: int) -> TowerConfig:
    demand(vision, "hidden_act", vision.get("hidden_act", default="gelu_pytorch_tanh"), "gelu_pytorch_tanh")
    demand(vision, "out_hidden_size", vision.whole("out_hidden_size"), text.whole("hidden_size"))
    positions = vision.whole("num_position_embeddings", default=2304, least=1)
    side = isqrt(positions)
    demand(vision, "num_position_embeddings", positions, side**2)
    blocks = vision.whole("depth", "num_hidden_layers", least=1, most=MOST_BLOCKS)
    deep = vision.wholes("deepstack_visual_indexes", default=(), least=1)
    if not all(0 <= block < blocks for block in deep):
        raise CheckpointError(f"{vision.where}: deepstack_visual_indexes is {deep}; wanted blocks below {blocks}")
    rope = vision.table("rope_parameters", default={})
    demand(rope, "rope_type", rope.get("rope_type", default="axial"), "axial")
    return TowerConfig(
        width=vision.whole("hidden_size"),
        heads=vision.whole("num_heads", "num_attention_heads", least=1),
        mlp_width=vision.whole("intermediate_size"),
        blocks=blocks,
        taps=(blocks - 1, *deep),
        score_after=score_after,
        position_side=side,
        rope_theta=rope.number("rope_theta", default=10000.0),
        connector=MERGERS,
    )


def _decoder(text: Table, config: Table) -> DecoderConfig:
    width, heads = text.whole("hidden_size"), text.whole("num_attention_heads", least=1)
    demand(text, "hidden_act", text.get("hidden_act", default="silu"), "silu")
    demand(text, "attention_bias", text.truth("attention_bias", default=False), False)
    scaling = {**text.table("rope_scaling", default={}).values, **text.table("rope_parameters", default={}).values}
    rope = Table(scaling, f"{text.where}: rope_parameters")
    demand(rope, "rope_type", rope.get("rope_type", "type", default="default"), "default")
    demand(rope, "mrope_interleaved", rope.truth("mrope_interleaved", default=True), True)
    sections = rope.wholes("mrope_section", default=(24, 20, 20), least=3)
    if len(sections) != 3:
        raise CheckpointError(f"{rope.where}: mrope_section is {sections}; wanted planes of time, row and column")
    return DecoderConfig(
        layers=text.whole("num_hidden_layers", most=MOST_BLOCKS),
        width=width,
        heads=heads,
        kv_heads=text.whole("num_key_value_heads", default=heads),
        head_dim=text.whole("head_dim", default=128),
        mlp_width=text.whole("intermediate_size"),
        vocabulary=text.whole("vocab_size"),
        extra_vocabulary=0,
        query_key_norm="head",
        block_norm="pre",
        tied_embedding=config.truth(TIED, default=text.truth(TIED, default=False)),
        rope_theta=rope.number("rope_theta") if "rope_theta" in scaling else text.number("rope_theta"),
        epsilon=text.number("rms_norm_eps", default=1e-6),
        max_positions=text.whole("max_position_embeddings", default=262144),
        rope_sections=(sections[0], sections[1], sections[2]),
        causal=True,
        replaces_embedding=True,
    )


def _resize(processor: Table) -> SmartResize:
    size = processor.table("size", default={})
    return SmartResize(
        min_pixels=size.whole("shortest_edge", default=4096, least=1),
        max_pixels=size.whole("longest_edge", default=25165824, least=1),
        max_frame_tokens=processor.whole("max_video_tokens", default=CAPPED_TOKENS, least=1),
    )
