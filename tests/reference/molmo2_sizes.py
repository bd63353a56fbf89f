"""Sizes of the toy Molmo2 models, one for each kind of decoder. transformers' models of them are in `molmo2`."""

from __future__ import annotations

from stts_export.recipe.config import DecoderConfig, ModelConfig, ScorerConfig, TowerConfig, Yarn
from stts_runtime.bundle.manifest import Cropping, FrameSampling, Grid, Prompt, Tokens


KINDS = ("qwen3", "olmo3", "llama")

VOCABULARY, EXTRA = 300, 16
GRID = Grid(image_size=126, patch_size=14, pool=3)
TOWER = TowerConfig(width=32, heads=4, mlp_width=48, blocks=6, taps=(5, 3), score_after=1)
# marker ids stand behind the vocabulary in the order of the released models
TOKENS = Tokens(
    bos=2,
    stop=(2,),
    image_patch=302,
    frame_start=307,
    frame_end=308,
    image_start=300,
    low_res_image_start=304,
    image_column=303,
    image_end=301,
)
CROPPING = Cropping(max_crops=4, overlap=(1, 1), pool=2)
PROMPT = Prompt(
    system="{video}",
    user="<|im_start|>user\n{content}<|im_end|>\n",
    assistant="<|im_start|>assistant\n",
    turn_end="<|im_end|>\n",
)

DECODERS = {
    "qwen3": DecoderConfig(
        layers=2,
        width=32,
        heads=4,
        kv_heads=2,
        head_dim=16,
        mlp_width=48,
        vocabulary=VOCABULARY,
        extra_vocabulary=EXTRA,
        query_key_norm="head",
        block_norm="pre",
        tied_embedding=False,
        rope_theta=1e6,
    ),
    "olmo3": DecoderConfig(
        layers=3,
        width=32,
        heads=2,
        kv_heads=2,
        head_dim=16,
        mlp_width=40,
        vocabulary=VOCABULARY,
        extra_vocabulary=EXTRA,
        query_key_norm="full",
        block_norm="post",
        tied_embedding=False,
        rope_theta=1e4,
        # original length and theta put YaRN's ramp in the middle of the eight planes
        yarn=Yarn(factor=8.0, original_max_positions=1024, attention_factor=1.2079441541679836, layers=(1,)),
        max_positions=8192,
    ),
    "llama": DecoderConfig(
        layers=2,
        width=32,
        heads=4,
        kv_heads=2,
        head_dim=8,
        mlp_width=48,
        vocabulary=VOCABULARY,
        extra_vocabulary=EXTRA,
        query_key_norm="none",
        block_norm="pre",
        tied_embedding=True,
        rope_theta=1e5,
        epsilon=1e-5,
    ),
}


def model_config(kind: str, scorer: str = "none", soft_bias: bool = False) -> ModelConfig:
    """Return our configuration of the toy model of a kind, dense unless a scorer is named."""
    return ModelConfig(
        name=f"toy-{kind}",
        grid=GRID,
        tower=TOWER,
        scorer=ScorerConfig(kind=scorer, soft_bias=soft_bias),
        decoder=DECODERS[kind],
        tokens=TOKENS,
        prompt=PROMPT,
        frame_sampling=FrameSampling(method="uniform", max_frames=16, max_fps=2.0),
        image=CROPPING,
    )
