"""An assembled model of some thousand parameters: a closed vocabulary, a seeded decoder, a structured start."""

from pathlib import Path

import torch
from safetensors.torch import save_file

from stts_export.checkpoint.expected import expected_tensors
from stts_export.recipe.read import ModelRecipe, read_model_recipe


WORDS = ("?", ":", "what", "colour", "moves", "red", "blue", "0.0", "0.5", "1.0")
_VOCABULARY = 3 + len(WORDS)

WORD_RECIPE = f"""
name = "worded"
source = "assembled"
prune_fraction = 0.5
packing = "ragged"
license = "Apache-2.0"

[assembly]
seed = 3
start = "structured"
words = [{", ".join(f'"{word}"' for word in WORDS)}]

[grid]
image_size = 48
patch_size = 12
pool = 2

[tower]
width = 16
heads = 2
mlp_width = 24
blocks = 4
taps = [3, 2]
score_after = 0

[scorer]
kind = "learned"
soft_bias = true

[decoder]
layers = 3
width = 48
heads = 3
kv_heads = 3
head_dim = 16
mlp_width = 32
vocabulary = {_VOCABULARY}
extra_vocabulary = 3
query_key_norm = "none"
block_norm = "pre"
tied_embedding = true
rope_theta = 1e5
attention_bias = true
max_positions = 512

[tokens]
bos = 1
stop = [2]
image_patch = {_VOCABULARY}
frame_start = {_VOCABULARY + 1}
frame_end = {_VOCABULARY + 2}

[prompt]
system = ""
user = "{{content}}"
assistant = " :"
turn_end = "<end>"

[frame_sampling]
method = "uniform_last_frame"
max_frames = 4
max_fps = 2.0
"""


def write_word_recipe(folder: Path, *changes: tuple[str, str]) -> Path:
    """Write the recipe with these texts in it changed, and return its path."""
    text = WORD_RECIPE
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path = folder / "worded.toml"
    path.write_text(text)
    return path


def word_recipe(folder: Path, *changes: tuple[str, str]) -> ModelRecipe:
    """Return that recipe, read."""
    return read_model_recipe(write_word_recipe(folder, *changes))


def with_trained(folder: Path) -> tuple[str, str]:
    """Return the change that lays the trained weights in `folder` over the seeded ones."""
    return 'start = "structured"', f'start = "structured"\ntrained = "{folder}"'


def ship_ones(folder: Path, recipe: ModelRecipe, leave_out: str = "", metadata: dict[str, str] | None = None) -> Path:
    """Write trained weights, ones in every tensor of the model but `leave_out`, into `folder`, which is made."""
    folder.mkdir()
    tensors = {n: torch.ones(shape).half() for n, shape in expected_tensors(recipe.config).items() if n != leave_out}
    save_file(tensors, folder / "trained-01-of-01.safetensors", metadata=metadata or {})
    return folder
