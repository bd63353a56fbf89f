"""A model of a few thousand parameters as a recipe, for tests that need a configuration and not a real model."""

from dataclasses import replace
from pathlib import Path

from stts_export.recipe.config import DecoderConfig, ModelConfig, ScorerConfig
from stts_export.recipe.read import read_model_recipe


TOY_RECIPE = """
name = "toy"
source = "checkpoint"
prune_fraction = 0.5
license = "Apache-2.0"

[grid]
image_size = 84
patch_size = 14
pool = 3

[tower]
width = 8
heads = 2
mlp_width = 12
blocks = 6
taps = [5, 4]
score_after = 1

[scorer]
kind = "learned"
soft_bias = true

[decoder]
layers = 2
width = 16
heads = 4
kv_heads = 2
head_dim = 8
mlp_width = 20
vocabulary = 40
extra_vocabulary = 10
query_key_norm = "head"
block_norm = "pre"
tied_embedding = false
rope_theta = 1e6

[tokens]
bos = 0
stop = [1]
image_patch = 42
frame_start = 47
frame_end = 48

[prompt]
system = ""
user = "<|im_start|>user\\n{content}<|im_end|>\\n"
assistant = "<|im_start|>assistant\\n"
turn_end = "<|im_end|>\\n"

[frame_sampling]
method = "uniform"
max_frames = 8
max_fps = 2
"""


def write_recipe(folder: Path, text: str = TOY_RECIPE) -> Path:
    """Write a recipe into `folder` and return its path."""
    path = folder / "toy.toml"
    path.write_text(text)
    return path


def toy_config(folder: Path, scorer: str = "learned", **decoder: object) -> ModelConfig:
    """Return the toy configuration with another scorer or other decoder values; `folder` is for the recipe's file."""
    config = read_model_recipe(write_recipe(folder)).config
    values = {field: getattr(config.decoder, field) for field in config.decoder.__dataclass_fields__}
    return replace(
        config,
        scorer=ScorerConfig(kind=scorer, soft_bias=scorer == "learned"),
        decoder=DecoderConfig(**{**values, **decoder}),
    )
