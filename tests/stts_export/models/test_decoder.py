from dataclasses import replace

import pytest
import torch
from reference.decoding import all_logits, grown_cache
from reference.molmo2 import video_token_ids, vision_flags
from reference.molmo2_sizes import DECODERS, GRID, KINDS, TOKENS, model_config
from torch import Tensor

from stts_export.checkpoint.expected import expected_tensors
from stts_export.errors import RecipeError
from stts_export.models.decoder import Decoder, feature_rows
from stts_export.recipe.config import Yarn


FRAMES, TEXT = 2, 6
TOKEN_IDS = video_token_ids(FRAMES, text=TEXT)
FLAGS = vision_flags(TOKEN_IDS)
PATCHES = FRAMES * GRID.groups
NO_FEATURES = torch.zeros(1, 32)


def toy(kind: str) -> Decoder:
    torch.manual_seed(0)
    decoder = Decoder(DECODERS[kind], TOKENS.image_patch).eval()
    for parameter in decoder.parameters():
        parameter.data.add_(0.2 * torch.randn(parameter.shape))
    return decoder


def features() -> Tensor:
    return torch.randn(PATCHES, 32, generator=torch.Generator().manual_seed(1))


def in_pieces(decoder: Decoder, ends: list[int]) -> list[Tensor]:
    """Feed the sequence up to each end in turn and return the logits at each."""
    cache, logits, start = decoder.empty_cache(), [], 0
    for end in ends:
        ids = TOKEN_IDS[:, start:end]
        given = features() if (ids == TOKENS.image_patch).any() else NO_FEATURES
        rows = feature_rows(ids, TOKENS.image_patch)
        last, new = decoder(ids, given, rows, torch.arange(start, end), torch.arange(end), FLAGS[:end], cache)
        cache = grown_cache(cache, new)
        logits.append(last[0])
        start = end
    return logits


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_prefill_then_one_token_at_a_time_equals_the_whole_sequence(kind: str) -> None:
    decoder = toy(kind)
    length = TOKEN_IDS.shape[1]
    ends = list(range(length - TEXT, length + 1))
    got = in_pieces(decoder, ends)
    whole = all_logits(decoder, TOKEN_IDS, features(), FLAGS)
    torch.testing.assert_close(torch.stack(got), whole[[end - 1 for end in ends]], rtol=0, atol=2e-5)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_a_second_chunk_of_text_equals_the_whole_sequence(kind: str) -> None:
    decoder = toy(kind)
    length = TOKEN_IDS.shape[1]
    got = in_pieces(decoder, [4, length - TEXT + 1, length - 1, length])
    whole = all_logits(decoder, TOKEN_IDS, features(), FLAGS)
    torch.testing.assert_close(got[-1], whole[-1], rtol=0, atol=2e-5)
    torch.testing.assert_close(got[1], whole[length - TEXT], rtol=0, atol=2e-5)


@torch.no_grad()
def test_each_feature_is_added_to_its_own_placeholder_and_to_nothing_else() -> None:
    decoder = toy("qwen3")
    seen: list[Tensor] = []
    hook = decoder.blocks[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][0]))
    all_logits(decoder, TOKEN_IDS, features(), FLAGS)
    hook.remove()
    wanted = decoder.embedding(TOKEN_IDS)[0]
    wanted[TOKEN_IDS[0] == TOKENS.image_patch] += features()
    assert torch.equal(seen[0], wanted)


def test_the_kth_image_patch_has_row_k_and_every_other_token_row_0() -> None:
    patch, text = TOKENS.image_patch, TOKENS.frame_start
    ids = torch.tensor([[text, patch, patch, text, text, patch, text]])
    assert feature_rows(ids, patch).tolist() == [0, 0, 1, 0, 0, 2, 0]
    assert feature_rows(ids[:, 3:5], patch).tolist() == [0, 0]


@torch.no_grad()
def test_each_image_patch_is_given_the_row_it_is_told_whatever_rows_other_tokens_are_told() -> None:
    decoder, patch = toy("qwen3"), TOKENS.image_patch
    ids, flags, places = TOKEN_IDS, FLAGS, torch.arange(TOKEN_IDS.shape[1])

    def logits(given: Tensor, rows: Tensor) -> Tensor:
        return decoder(ids, given, rows, places, places, flags, decoder.empty_cache())[0]

    wanted = logits(features(), feature_rows(ids, patch))
    backwards = torch.where(ids[0] == patch, PATCHES - 1 - feature_rows(ids, patch), PATCHES - 1)
    assert torch.equal(logits(features().flip(0), backwards), wanted)
    assert not torch.equal(logits(features(), backwards), wanted)


@torch.no_grad()
def test_features_are_ignored_where_no_token_is_a_placeholder() -> None:
    decoder = toy("qwen3")
    ids, flags = TOKEN_IDS[:, -TEXT:], FLAGS[-TEXT:]
    assert torch.equal(all_logits(decoder, ids, NO_FEATURES, flags), all_logits(decoder, ids, features(), flags))


def test_gradients_reach_features_and_every_weight() -> None:
    for kind in KINDS:
        decoder, rows = toy(kind), features().requires_grad_()
        all_logits(decoder, TOKEN_IDS, rows, FLAGS).square().sum().backward()
        assert rows.grad is not None
        assert (rows.grad != 0).any(dim=1).all()
        assert [name for name, weight in decoder.named_parameters() if weight.grad is None] == []


@pytest.mark.parametrize("kind", KINDS)
def test_weight_names_and_shapes_are_those_checkpoints_are_mapped_to(kind: str) -> None:
    state = {f"decoder.{name}": tuple(weight.shape) for name, weight in toy(kind).state_dict().items()}
    expected = {name: shape for name, shape in expected_tensors(model_config(kind)).items() if "decoder." in name}
    assert state == expected


def test_attention_biases_exist_on_query_key_and_value_only() -> None:
    decoder = Decoder(replace(DECODERS["qwen3"], attention_bias=True), TOKENS.image_patch)
    biases = [name for name in decoder.blocks[0].state_dict() if name.endswith("bias")]
    assert biases == ["attention.query.bias", "attention.key.bias", "attention.value.bias"]


@torch.no_grad()
def test_a_tied_head_is_the_embedding_without_its_extra_rows() -> None:
    decoder = toy("llama")
    assert not hasattr(decoder, "head")
    logits = all_logits(decoder, TOKEN_IDS, features(), FLAGS)
    assert logits.shape == (TOKEN_IDS.shape[1], DECODERS["llama"].vocabulary)
    hidden = torch.randn(3, 32)
    rows = decoder.embedding.weight[: DECODERS["llama"].vocabulary]
    torch.testing.assert_close(decoder.logits(hidden), decoder.norm(hidden) @ rows.T)


@torch.no_grad()
def test_yarn_acts_on_the_chosen_layers_and_on_all_where_none_is_chosen() -> None:
    config = DECODERS["olmo3"]
    assert config.yarn is not None

    def logits(layers: tuple[int, ...]) -> Tensor:
        decoder = Decoder(replace(config, yarn=replace(config.yarn, layers=layers)), TOKENS.image_patch)
        decoder.load_state_dict(toy("olmo3").state_dict())
        return all_logits(decoder, TOKEN_IDS, features(), FLAGS)

    assert torch.equal(logits(()), logits((0, 1, 2)))
    assert not torch.allclose(logits((1,)), logits((0,)), atol=1e-3)
    assert not torch.allclose(logits((1,)), logits(()), atol=1e-3)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"query_key_norm": "heads"}, "query_key_norm"),
        ({"block_norm": "both"}, "block_norm"),
        ({"kv_heads": 3}, "kv_heads"),
        ({"head_dim": 7}, "head_dim"),
        ({"yarn": Yarn(8.0, 64, layers=(5,))}, "yarn.layers"),
    ],
)
def test_an_impossible_configuration_is_refused_by_its_key(change: dict[str, object], key: str) -> None:
    with pytest.raises(RecipeError, match=key):
        Decoder(replace(DECODERS["qwen3"], **change), TOKENS.image_patch)


@torch.no_grad()
def test_one_traced_graph_serves_prefill_and_decode_of_any_length() -> None:
    decoder, config = toy("qwen3"), DECODERS["qwen3"]

    def arguments(new: int, cached: int, kept: int) -> tuple[object, ...]:
        ids = torch.randint(0, 300, (1, new))
        ids[0, :kept] = TOKENS.image_patch
        cache = [tuple(torch.randn(2, 1, config.kv_heads, cached, config.head_dim)) for _ in range(config.layers)]
        flags = torch.arange(cached + new) < cached // 2 + kept
        keys = torch.arange(cached + new)
        rows = feature_rows(ids, TOKENS.image_patch)
        return ids, torch.randn(max(kept, 2), config.width), rows, keys[cached:], keys, flags, cache

    free = torch.export.Dim.DYNAMIC
    shapes = ({1: free}, *[{0: free}] * 5, [({2: free}, {2: free})] * config.layers)
    traced = torch.export.export(decoder, arguments(7, 5, 3), dynamic_shapes=shapes).module()
    for sizes in ((9, 0, 4), (1, 9, 0), (7, 5, 3)):
        inputs = arguments(*sizes)
        (got, got_cache), (wanted, wanted_cache) = traced(*inputs), decoder(*inputs)
        torch.testing.assert_close(got, wanted)
        torch.testing.assert_close(list(map(tuple, got_cache)), wanted_cache)
