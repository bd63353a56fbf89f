import os
import re
from pathlib import Path

import pytest
from reference.toy_recipe import TOY_RECIPE, write_recipe

from stts_export.checkpoint.smollm2 import MARKERS
from stts_export.errors import RecipeError
from stts_export.recipe.find import recipe_names
from stts_export.recipe.read import read_model_recipe
from stts_runtime.bundle.manifest import Cropping


def read_changed(folder: Path, old: str, new: str) -> None:
    assert old in TOY_RECIPE
    read_model_recipe(write_recipe(folder, TOY_RECIPE.replace(old, new, 1)))


@pytest.mark.parametrize("name", recipe_names("models"))
def test_every_shipped_recipe_is_read_and_named_after_its_file(name: str) -> None:
    recipe = read_model_recipe(name)
    assert recipe.config.name == name
    assert (recipe.assembly is not None) == (recipe.source == "assembled")
    assert (recipe.prune_fraction > 0) == (recipe.config.scorer.kind != "none")


@pytest.mark.parametrize("name", [name for name in recipe_names("models") if name.startswith(("molmo2", "micro"))])
def test_markers_lie_behind_the_vocabulary_in_molmo2s_order(name: str) -> None:
    config = read_model_recipe(name).config
    ids = {marker: config.decoder.vocabulary + i for i, marker in enumerate(MARKERS)}
    tokens = config.tokens
    assert tokens.image_patch == ids["<im_patch>"]
    assert (tokens.frame_start, tokens.frame_end) == (ids["<frame_start>"], ids["<frame_end>"])


def test_the_toy_recipe_becomes_frozen_records_with_defaults_and_whole_numbers_as_floats(tmp_path: Path) -> None:
    config = read_model_recipe(write_recipe(tmp_path)).config
    assert config.tower.taps == (5, 4)
    assert config.tower.epsilon == 1e-6
    assert config.decoder.yarn is None
    assert isinstance(config.frame_sampling.max_fps, float)
    assert config.grid.groups == 4


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("kv_heads = 2", "kv_head = 2", "decoder.kv_head: unknown key; did you mean 'kv_heads'?"),
        ("prune_fraction = 0.5", "prune = 0.5", "prune: unknown key; did you mean 'prune_fraction'?"),
        ("prune_fraction = 0.5", "prune_fraction = 0.5\nconfig = 1", "config: unknown key; did you mean 'packing'?"),
        ("[tower]", "[towers]", "towers: unknown key; did you mean 'tower'?"),
        ("width = 8\n", "", "tower.width: missing; wanted a whole number"),
        ('license = "Apache-2.0"', "", "license: missing; wanted text"),
        ("heads = 2", 'heads = "two"', "tower.heads: wanted a whole number, got 'two'"),
        ("heads = 2", "heads = true", "tower.heads: wanted a whole number, got True"),
        ("heads = 2", "heads = 2.0", "tower.heads: wanted a whole number, got 2.0"),
        ("taps = [5, 4]", "taps = 5", "tower.taps: wanted a list, each item a whole number, got 5"),
        ("taps = [5, 4]", "taps = [5, 4.5]", "tower.taps[1]: wanted a whole number, got 4.5"),
        ("soft_bias = true", "soft_bias = 1", "scorer.soft_bias: wanted true or false, got 1"),
        ("stop = [1]", "stop = [1", "not valid TOML"),
        ('source = "checkpoint"', 'source = "hub"', "source is 'hub'; wanted one of checkpoint, assembled"),
        ('source = "checkpoint"', 'source = "assembled"', "table assembly is missing with source = 'assembled'"),
    ],
)
def test_what_the_records_do_not_say_is_refused_with_key_and_wish(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    with pytest.raises(RecipeError, match=re.escape(said)) as caught:
        read_changed(tmp_path, old, new)
    assert str(tmp_path / "toy.toml") in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("image_size = 84", "image_size = 80", "grid.image_size is 80; wanted a multiple of patch_size * pool"),
        (
            "image_size = 84",
            "image_size = [84, 80]",
            "grid.image_size is (84, 80); wanted a multiple of patch_size * pool",
        ),
        ("image_size = 84", "image_size = [84, 0]", "grid.image_size is (84, 0); wanted numbers above 0"),
        ("image_size = 84", "image_size = [84]", "grid.image_size: wanted a list of 2, got 1"),
        ("patch_size = 14", "patch_size = 14\nframes = 0", "grid.frames is 0; wanted a number above 0"),
        (
            "score_after = 1",
            "score_after = 1\nconnector = 'merger'",
            "tower.connector is 'merger'; wanted one of pool, mergers",
        ),
        ("rope_theta = 1e6", "rope_theta = 1e6\nrope_sections = [2, 1, 2]", "add up to head_dim / 2 = 4"),
        ("max_fps = 2", "max_fps = 2\nmin_frames = 9", "frame_sampling.min_frames is 9; wanted at most max_frames = 8"),
        ('system = ""', 'system = ""\ntimestamp = "at"', "prompt.timestamp is 'at'; wanted a text with {time}"),
        ("pool = 3", "pool = 0", "grid.pool is 0; wanted a number above 0"),
        ("width = 8", "width = -8", "tower.width is -8; wanted a number above 0"),
        ("heads = 2", "heads = 3", "tower.heads is 3; wanted a divisor of tower.width = 8"),
        ("taps = [5, 4]", "taps = [6, 4]", "tower.taps is (6, 4); wanted blocks from 3"),
        ("taps = [5, 4]", "taps = [5, 2]", "tower.taps is (5, 2); wanted blocks from 3 (behind the prune"),
        ("taps = [5, 4]", "taps = []", "tower.taps is (); wanted at least one block"),
        ("score_after = 1", "score_after = 4", "tower.score_after is 4; wanted 0 up to 3"),
        ('kind = "learned"', 'kind = "trained"', "scorer.kind is 'trained'; wanted one of learned, cosine"),
        ('kind = "learned"', 'kind = "none"', "scorer.soft_bias is True; wanted false where there is no scorer"),
        ('kind = "learned"\nsoft_bias = true', 'kind = "none"\nsoft_bias = false', "prune_fraction is 0.5 but scorer"),
        ("prune_fraction = 0.5", "prune_fraction = 1.0", "prune_fraction is 1.0; wanted a number from 0 up to"),
        ("prune_fraction = 0.5", "prune_fraction = -0.1", "prune_fraction is -0.1; wanted a number from 0 up to"),
        ("prune_fraction = 0.5", "prune_fraction = nan", "prune_fraction: wanted a number, got nan"),
        ("kv_heads = 2", "kv_heads = 3", "decoder.kv_heads is 3; wanted a divisor of decoder.heads = 4"),
        ("head_dim = 8", "head_dim = 7", "decoder.head_dim is 7; wanted an even number"),
        ("vocabulary = 40", "vocabulary = 0", "decoder.vocabulary is 0; wanted a number above 0"),
        ("extra_vocabulary = 10", "extra_vocabulary = -1", "decoder.extra_vocabulary is -1; wanted 0 or more"),
        ('query_key_norm = "head"', 'query_key_norm = "qwen3"', "wanted one of none, head, full"),
        ('block_norm = "pre"', 'block_norm = "both"', "decoder.block_norm is 'both'; wanted one of pre, post"),
        ("rope_theta = 1e6", "rope_theta = 0", "decoder.rope_theta is 0.0; wanted a number above 0"),
        (
            "rope_theta = 1e6",
            "rope_theta = 1e6\nyarn = { factor = 8, original_max_positions = 64, layers = [2] }",
            "decoder.yarn.layers is (2,); wanted layers from 0 to 1",
        ),
        (
            "rope_theta = 1e6",
            "rope_theta = 1e6\nyarn = { factor = 0.5, original_max_positions = 64 }",
            "decoder.yarn.factor is 0.5; wanted 1 or more",
        ),
        ("image_patch = 42", "image_patch = 50", "tokens.image_patch is 50; wanted an id from 0 to 49"),
        ("frame_end = 48", "frame_end = 47", "wanted 3 different ids"),
        ("stop = [1]", "stop = []", "tokens.stop is (); wanted at least one id"),
        ("stop = [1]", "stop = [40]", "tokens.stop is (40,); wanted at least one id, each from 0 to 39"),
        ("bos = 0", "bos = -1", "tokens.bos is -1; wanted an id from 0 to 49"),
        ("{content}", "", "wanted a text with {content} in it once"),
        ('method = "uniform"', 'method = "random"', "frame_sampling.method is 'random'; wanted one of uniform"),
        ("max_frames = 8", "max_frames = 0", "frame_sampling.max_frames is 0; wanted a number above 0"),
    ],
)
def test_impossible_values_are_refused_with_key_value_and_wish(tmp_path: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(said)):
        read_changed(tmp_path, old, new)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "blocks = 6",
            "blocks = 1000000000000",
            "tower.blocks is 1000000000000; wanted a number above 0, at most 1,000",
        ),
        ("vocabulary = ", "vocabulary = 9999999999", "decoder.vocabulary is 9999999999"),
        ("width = 8", "width = 9e99", "tower.width: wanted a whole number"),
        ("max_fps = 2", "max_fps = inf", "frame_sampling.max_fps: wanted a number, got inf"),
        ("max_fps = 2", "max_fps = nan", "frame_sampling.max_fps: wanted a number, got nan"),
        ("blocks = 6", f"blocks = {'9' * 400}", "tower.blocks: wanted a whole number, got a number of"),
        ("blocks = 6", f"blocks = {'9' * 5000}", "not valid TOML"),
        ("blocks = 6", f"blocks = {'[' * 50000}", "not valid TOML: tables or lists are nested too deeply"),
    ],
    ids=["a long run", "many rows", "a float", "endless", "no number", "400 digits", "5,000 digits", "50,000 deep"],
)
def test_numbers_that_no_model_has_are_refused_by_name_and_at_once(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    line = next(line for line in TOY_RECIPE.splitlines() if line.startswith(old))
    with pytest.raises(RecipeError, match=re.escape(said)):
        read_changed(tmp_path, line, new)


def test_a_recipe_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.toml")
    with pytest.raises(RecipeError, match="no such recipe file"):
        read_model_recipe(str(tmp_path / "pipe.toml"))


IMAGE_TOKENS = "\nimage_start = 40\nimage_end = 41\nimage_column = 43\nlow_res_image_start = 44"
IMAGE_TABLE = "\n[image]\nmax_crops = 3\noverlap = [0, 1]\npool = 2\n"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("max_crops = 3", "max_crops = 200", "image.max_crops is 200; wanted a number from 1 to 128"),
        ("pool = 2\n", "pool = 4\n", "image.pool is 4; wanted one of 1, 2"),
        ("overlap = [0, 1]", "overlap = [-1, 1]", "image.overlap is (-1, 1); wanted patches, fewer together than"),
        (
            "image_column = 43",
            "",
            "tokens is 'no image_column'; wanted every token of images, as there is a table image",
        ),
        ("image_column = 43", "image_column = 41", "wanted 7 different ids"),
        ("low_res_image_start = 44", "low_res_image_start = 42", "wanted 7 different ids"),
    ],
)
def test_impossible_settings_of_images_are_refused(tmp_path: Path, old: str, new: str, said: str) -> None:
    text = TOY_RECIPE.replace("frame_end = 48", "frame_end = 48" + IMAGE_TOKENS) + IMAGE_TABLE
    image = read_model_recipe(write_recipe(tmp_path, text)).config.image
    assert image == Cropping(max_crops=3, overlap=(0, 1), pool=2)
    same_start = text.replace("low_res_image_start = 44", "low_res_image_start = 40")
    assert read_model_recipe(write_recipe(tmp_path, same_start)).config.tokens.low_res_image_start == 40
    head, _, tail = text.rpartition(old)  # the grid has a pool of its own, further up
    with pytest.raises(RecipeError, match=re.escape(said)):
        read_model_recipe(write_recipe(tmp_path, head + new + tail))
