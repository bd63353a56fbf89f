import re
from pathlib import Path

import pytest
from reference.word_model import word_recipe

from stts_export.errors import RecipeError
from stts_export.recipe.read import read_model_recipe


WORDS_LINE = 'words = ["?", ":", "what", "colour", "moves", "red", "blue", "0.0", "0.5", "1.0"]'


def test_a_recipe_says_how_it_packs_and_what_its_weights_were_trained_to_lose(tmp_path: Path) -> None:
    recipe = word_recipe(tmp_path)
    assert recipe.packing == "ragged"
    assert recipe.trained_fractions == (0.5, 0.5)  # a learned scorer is trained at the recipe's own
    said = word_recipe(tmp_path, ("prune_fraction = 0.5", "prune_fraction = 0.5\ntrained_fractions = [0, 0.8]"))
    assert said.trained_fractions == (0.0, 0.8)
    assert read_model_recipe("nano").trained_fractions == (0.0, 0.8)
    assert read_model_recipe("molmo2-4b-lite-30").trained_fractions == (0.3, 0.3)
    for untold in ("micro", "molmo2-4b"):
        assert read_model_recipe(untold).trained_fractions is None
    assert [read_model_recipe(name).packing for name in ("micro", "molmo2-4b")] == ["ragged", "ffd"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('start = "structured"', 'start = "structurd"', "assembly.start is 'structurd'; wanted one of plain, structur"),
        ("seed = 3", 'seed = 3\npackage = "llm"', "either is where decoder and tokenizer come from"),
        (WORDS_LINE, "words = []", "either is where decoder and tokenizer come from"),
        (WORDS_LINE, 'package = "llm"', "assembly.start is 'structured'; wanted 'plain': the package's decoder"),
        ('"red"', '"Red"', "assembly.words is 'Red'; wanted lower-cased letters"),
        ('"red"', '"red one"', "assembly.words is 'red one'; wanted lower-cased letters"),
        ('"red"', '"blue"', "assembly.words is ['blue']; wanted each word once"),
        ('"red", ', "", "decoder.vocabulary is 13; wanted 12: <unk>, <bos>, <end> and 9 words"),
        ('":"', '"-"', "prompt is [':']; wanted no word that assembly.words does not have"),
        ("extra_vocabulary = 3", "extra_vocabulary = 2", "tokens.frame_end is 15; wanted an id from 0 to 14"),
        ("image_patch = 13", "image_patch = 12", "tokens.image_patch is 12; wanted 13: markers lie behind the words"),
        ("bos = 1", "bos = 0", "tokens.bos is 0; wanted 1, which is <bos>"),
        ("stop = [2]", "stop = [3]", "tokens.stop is (3,); wanted [2], which is <end>"),
        ("attention_bias = true", "", "decoder.attention_bias is False; wanted true with assembly.start"),
        ("kv_heads = 3", "kv_heads = 1", "decoder.kv_heads is 1; wanted as many as heads"),
        ("head_dim = 16", "head_dim = 8", "decoder.width is 48; wanted heads * head_dim = 24"),
        ('query_key_norm = "none"', 'query_key_norm = "head"', "decoder.query_key_norm is 'head'; wanted 'none'"),
        ('block_norm = "pre"', 'block_norm = "post"', "decoder.block_norm is 'post'; wanted 'pre'"),
        ("rope_theta = 1e5", "rope_theta = 1.1", "decoder.head_dim is 16; wanted a head with 3 waves"),
        (
            'packing = "ragged"',
            'packing = "raged"',
            "packing is 'raged'; wanted one of ffd, ragged (did you mean ragged",
        ),
        ('packing = "ragged"', "trained_fractions = [0.8, 0.1]", "trained_fractions is [0.8, 0.1]; wanted the least"),
        ('packing = "ragged"', "trained_fractions = [0.1, 1]", "trained_fractions is [0.1, 1.0]; wanted the least"),
        ('packing = "ragged"', "trained_fractions = [0.1]", "trained_fractions: wanted a list of 2, got 1"),
    ],
)
def test_an_assembly_that_cannot_work_is_refused_with_key_value_and_wish(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    with pytest.raises(RecipeError, match=re.escape(said)):
        word_recipe(tmp_path, (old, new))
