import math
from pathlib import Path

import pytest
import torch
from reference.decoding import all_logits
from reference.word_model import word_recipe
from torch import Tensor

from stts_export.checkpoint.load import load_into
from stts_export.checkpoint.seeded import random_checkpoint
from stts_export.checkpoint.structured import LOCAL_BIAS, local_heads, structured_checkpoint
from stts_export.models.decoder import Decoder
from stts_export.models.model import Model
from stts_export.models.rope import plain_frequencies, rotate
from stts_export.models.vision import run_vision
from stts_export.recipe.assembly import local_planes
from stts_export.recipe.config import ModelConfig
from stts_export.recipe.read import read_model_recipe


@pytest.fixture(scope="module")
def config() -> ModelConfig:
    return read_model_recipe("nano").config


@pytest.fixture(scope="module")
def decoder(config: ModelConfig) -> Decoder:
    decoder = Decoder(config.decoder, config.tokens.image_patch).eval()
    tensors = structured_checkpoint(config, 0).tensors
    decoder.load_state_dict(
        {n.removeprefix("decoder."): t.read() for n, t in tensors.items() if n.startswith("decoder")}
    )
    return decoder.requires_grad_(False)


def logits(decoder: Decoder, block: int, hidden: Tensor) -> Tensor:
    """Attention logits [heads, S, S] of a block's `hidden` [1, S, d_model], as its attention computes them."""
    attention = decoder.blocks[block].attention
    rotation = decoder.rotary(torch.arange(hidden.shape[1]))
    query, key = (
        rotate(attention.split(projection(hidden), torch.nn.Identity()), *rotation)
        for projection in (attention.query, attention.key)
    )
    return (query @ key.transpose(-1, -2))[0] / math.sqrt(attention.head_dim)


def test_without_content_a_local_heads_logit_is_a_sum_of_waves_over_the_distance(
    decoder: Decoder, config: ModelConfig
) -> None:
    """Derived from the rotation: equal biases on one plane meet at the angle of (m - n) times its frequency."""
    head, length = config.decoder.head_dim, 40
    frequencies = plain_frequencies(head, config.decoder.rope_theta)[
        list(local_planes(head, config.decoder.rope_theta))
    ]
    distance = torch.arange(length)[:, None] - torch.arange(length)[None, :]
    wanted = LOCAL_BIAS**2 * torch.cos(distance[..., None] * frequencies).sum(-1) / math.sqrt(head)
    for block in range(config.decoder.layers):
        got = logits(decoder, block, torch.zeros(1, length, config.decoder.width))
        for number, of_head in enumerate(got):
            expected = wanted if number < local_heads(block) else torch.zeros_like(wanted)
            torch.testing.assert_close(of_head, expected, rtol=0, atol=1e-4)
    assert [local_heads(block) for block in range(4)] == [2, 2, 1, 1]
    # one hill around the token itself: falling over the first eight tokens, and never as high again
    falling = wanted[0, :9]
    assert (falling.diff() < 0).all()
    assert wanted[0, 9:].max() < falling[3]


def test_local_heads_look_at_near_tokens_and_the_others_at_their_like(decoder: Decoder, config: ModelConfig) -> None:
    ids = torch.randperm(config.decoder.vocabulary, generator=torch.Generator().manual_seed(1))[:48]
    ids[40] = ids[30]  # the same word ten tokens ago
    hidden = decoder.blocks[0].attention_norm(decoder.embedding(ids)[None])
    weights = logits(decoder, 0, hidden)[:, 40, :40].softmax(-1)  # the token itself left out
    local, others = weights[: local_heads(0)], weights[local_heads(0) :]
    assert (local[:, -4:].sum(-1) > 0.5).all()
    assert (others[:, -4:].sum(-1) < 0.3).all()
    assert (others.argmax(-1) == 30).all()
    assert (others[:, 30] > 4 / 40).all()  # four times the even share


def test_query_and_key_are_one_and_what_is_attended_to_is_passed_on(config: ModelConfig) -> None:
    tensors = {name: tensor.read() for name, tensor in structured_checkpoint(config, 5).tensors.items()}
    width = config.decoder.width
    for block in range(config.decoder.layers):
        query, key, value, output = (
            tensors[f"decoder.blocks.{block}.attention.{name}.weight"] for name in ("query", "key", "value", "output")
        )
        assert torch.equal(query, key)
        torch.testing.assert_close(output @ value, 0.5 * torch.eye(width), rtol=0, atol=1e-5)
        plain = query[local_heads(block) * config.decoder.head_dim :]
        torch.testing.assert_close(plain @ plain.T, torch.eye(len(plain)), rtol=0, atol=1e-5)
    assert abs(float(tensors["decoder.embedding.weight"].std()) - 0.08) < 0.005
    assert abs(float(tensors["vision_tower.position_embedding"].std()) - 0.2) < 0.01
    for name, tensor in tensors.items():
        if "norm" in name and name.endswith("weight"):
            assert (tensor == 1).all()
        elif name.endswith("bias") and "decoder" not in name:
            assert (tensor == 0).all()


def test_a_structured_tensor_depends_on_seed_and_name_and_on_nothing_else(tmp_path: Path) -> None:
    config = word_recipe(tmp_path).config
    forwards = {name: t.read() for name, t in structured_checkpoint(config, 3).tensors.items()}
    backwards = {name: t.read() for name, t in reversed(structured_checkpoint(config, 3).tensors.items())}
    assert all(torch.equal(tensor, backwards[name]) for name, tensor in forwards.items())
    name = "decoder.blocks.1.attention.query.weight"
    assert not torch.equal(forwards[name], structured_checkpoint(config, 4).tensors[name].read())
    assert not torch.equal(forwards[name], forwards["decoder.blocks.0.attention.query.weight"])
    plain = {name: t.shape for name, t in random_checkpoint(config, 3).tensors.items()}
    assert {name: tuple(t.shape) for name, t in forwards.items()} == plain
    assert {t.dtype for t in forwards.values()} == {torch.float32}


@torch.no_grad()
def test_activations_stay_sane_and_scores_differ(tmp_path: Path) -> None:
    config = word_recipe(tmp_path).config
    model = Model(config)
    load_into(model, structured_checkpoint(config, 0))
    values = 3 * config.grid.patch_size**2
    patches = torch.rand(5, config.grid.patches, values, generator=torch.Generator().manual_seed(0)) * 2 - 1
    result = run_vision(model, patches, prune_fraction=0.5)
    assert 0.01 < result.features.std() < 10
    assert result.scores.std() > 1e-4
    found = all_logits(model.decoder, torch.arange(6)[None], result.features, torch.zeros(6, dtype=torch.bool))
    assert 0.05 < found.std() < 10


def test_planes_that_come_round_within_a_few_tokens_are_left_out() -> None:
    assert local_planes(24, 1e5) == (1, 2, 3)
    assert local_planes(64, 1e6) == (1, 2, 3)
    assert local_planes(24, 10.0) == (2, 3, 4)
    assert local_planes(8, 1.1) == ()
