import math

import pytest
import torch
from hypothesis import given, settings, strategies as st
from reference.molmo2 import text_config
from reference.molmo2_sizes import DECODERS
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.molmo2.configuration_molmo2 import Molmo2TextConfig
from transformers.models.molmo2.modeling_molmo2 import Molmo2RotaryEmbedding, apply_rotary_pos_emb

from stts_export.models.rope import (
    RotaryTable,
    plain_frequencies,
    rotate,
    yarn_attention_factor,
    yarn_frequencies,
)
from stts_export.recipe.config import Yarn


POSITIONS = torch.tensor([0, 1, 2, 17, 1023, 1024, 8191, 36863])


@pytest.mark.parametrize(("head_dim", "theta"), [(128, 5e6), (128, 1e6), (64, 1e5), (16, 1e4)])
def test_plain_frequencies_are_bit_equal_to_transformers(head_dim: int, theta: float) -> None:
    config = Molmo2TextConfig(head_dim=head_dim, rope_parameters={"rope_type": "default", "rope_theta": theta})
    wanted, _ = Molmo2RotaryEmbedding.compute_default_rope_parameters(config)
    assert torch.equal(plain_frequencies(head_dim, theta), wanted)


@settings(max_examples=60, deadline=None)
@given(
    head_dim=st.sampled_from([8, 16, 64, 128]),
    theta=st.sampled_from([1e4, 5e5, 5e6]),
    factor=st.sampled_from([1.0, 2.0, 8.0, 40.0]),
    original=st.sampled_from([64, 1024, 8192, 32768]),
    beta_fast=st.sampled_from([8.0, 32.0, 64.0]),
    beta_slow=st.sampled_from([0.5, 1.0, 4.0]),
    attention_factor=st.sampled_from([None, 1.0, 1.3]),
)
def test_yarn_agrees_with_transformers_wherever_the_ramp_falls(
    head_dim: int,
    theta: float,
    factor: float,
    original: int,
    beta_fast: float,
    beta_slow: float,
    attention_factor: float | None,
) -> None:
    yarn = Yarn(factor, original, beta_fast, beta_slow, attention_factor)
    config = Molmo2TextConfig(
        head_dim=head_dim,
        max_position_embeddings=int(original * factor),
        rope_parameters={
            "rope_type": "yarn",
            "rope_theta": theta,
            "factor": factor,
            "original_max_position_embeddings": original,
            "beta_fast": beta_fast,
            "beta_slow": beta_slow,
            **({} if attention_factor is None else {"attention_factor": attention_factor}),
        },
    )
    wanted, wanted_factor = ROPE_INIT_FUNCTIONS["yarn"](config)
    torch.testing.assert_close(yarn_frequencies(head_dim, theta, yarn), wanted, rtol=3e-7, atol=0)
    assert yarn_attention_factor(yarn) == wanted_factor


def test_yarn_at_the_size_of_olmo_keeps_fast_planes_and_slows_the_slowest_eightfold() -> None:
    plain = plain_frequencies(128, 5e5)
    stretched = yarn_frequencies(128, 5e5, Yarn(factor=8.0, original_max_positions=8192))
    turns = 8192 * plain / (2 * math.pi)
    assert torch.equal(stretched[turns > 64], plain[turns > 64])
    torch.testing.assert_close(stretched[turns < 0.5], plain[turns < 0.5] / 8)
    assert (stretched.diff() < 0).all()


@pytest.mark.parametrize("scaled", [False, True])
def test_tables_and_rotation_agree_with_transformers_up_to_the_longest_position(scaled: bool) -> None:
    decoder = DECODERS["olmo3"]
    theirs = Molmo2RotaryEmbedding(text_config(decoder), scaled=scaled)
    states = torch.randn(1, 2, len(POSITIONS), decoder.head_dim)
    wanted, _ = apply_rotary_pos_emb(states, states, *theirs(states, POSITIONS[None]))
    ours = RotaryTable(decoder.head_dim, decoder.rope_theta, decoder.yarn if scaled else None)
    torch.testing.assert_close(rotate(states, *ours(POSITIONS)), wanted, rtol=0, atol=1e-6)


def test_products_of_rotated_states_depend_on_their_distance_only() -> None:
    table = RotaryTable(16, 1e4)
    query, key = torch.randn(2, 1, 16)

    def product(at_query: int, at_key: int) -> float:
        return float(rotate(query, *table(torch.tensor([at_query]))) @ rotate(key, *table(torch.tensor([at_key]))).T)

    assert product(5, 3) == pytest.approx(product(105, 103), abs=1e-4)
    assert product(5, 3) != pytest.approx(product(5, 4), abs=1e-4)


def test_frequencies_are_real_even_when_the_model_is_built_without_memory() -> None:
    with torch.device("meta"):
        table = RotaryTable(16, 1e4)
    assert torch.equal(table.frequencies, plain_frequencies(16, 1e4))
    assert "frequencies" not in table.state_dict()
