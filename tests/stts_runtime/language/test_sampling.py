import numpy as np
import pytest

from stts_runtime.errors import EngineError, UsageError
from stts_runtime.language.sampling import check_sampling, sample_token


LOGITS = np.log(np.array([0.1, 0.4, 0.2, 0.3], np.float32))


def draws(count, temperature, top_p, logits=LOGITS):
    rng = np.random.default_rng(7)
    return np.bincount([sample_token(logits, temperature, top_p, rng) for _ in range(count)], minlength=4) / count


def test_without_temperature_the_likeliest_is_taken_and_no_chance_is_used():
    rng = np.random.default_rng(0)
    assert sample_token(LOGITS, 0.0, 0.5, rng) == 1
    assert rng.random() == np.random.default_rng(0).random()


def test_among_equals_the_lowest_id_is_taken():
    assert sample_token(np.ones(5, np.float32), 0.0, 1.0, np.random.default_rng(0)) == 0


def test_tokens_come_as_often_as_they_are_likely():
    np.testing.assert_allclose(draws(8000, 1.0, 1.0), [0.1, 0.4, 0.2, 0.3], atol=0.02)


def test_temperature_sharpens():
    squared = np.array([0.1, 0.4, 0.2, 0.3]) ** 2
    np.testing.assert_allclose(draws(8000, 0.5, 1.0), squared / squared.sum(), atol=0.02)


def test_top_p_keeps_the_fewest_tokens_that_reach_it():
    np.testing.assert_allclose(draws(8000, 1.0, 0.6), [0, 0.4 / 0.7, 0, 0.3 / 0.7], atol=0.02)
    assert draws(50, 1.0, 0.01)[1] == 1


def test_top_p_over_a_large_vocabulary_equals_the_plain_definition():
    logits = np.random.default_rng(1).normal(0, 4, 50_000).astype(np.float32)
    probabilities = np.exp(logits.astype(np.float64) - logits.max())
    probabilities /= probabilities.sum()
    order = np.argsort(-probabilities)
    kept = set(order[: np.searchsorted(np.cumsum(probabilities[order]), 0.9) + 1].tolist())
    rng = np.random.default_rng(2)
    assert {sample_token(logits, 1.0, 0.9, rng) for _ in range(300)} <= kept


def test_the_same_seed_draws_the_same_tokens():
    first, second = np.random.default_rng(3), np.random.default_rng(3)
    assert [sample_token(LOGITS, 1.0, 0.9, first) for _ in range(20)] == [
        sample_token(LOGITS, 1.0, 0.9, second) for _ in range(20)
    ]


def test_tiny_temperatures_and_forbidden_tokens_do_no_harm():
    logits = np.array([-np.inf, 50.0, 49.0, -np.inf], np.float32)
    assert draws(20, 1e-300, 1.0, logits)[1] == 1
    assert draws(200, 100.0, 1.0, logits)[[0, 3]].sum() == 0
    assert draws(200, 100.0, 0.999, logits)[[0, 3]].sum() == 0


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_broken_logits_are_an_engine_error_that_names_the_way_to_the_cause(value, temperature):
    logits = LOGITS.copy()
    logits[2] = value
    with pytest.raises(EngineError, match="stts-export verify"):
        sample_token(logits, temperature, 1.0, np.random.default_rng(0))


@pytest.mark.parametrize("temperature", [-0.1, np.nan, np.inf])
def test_impossible_temperatures_are_refused(temperature):
    with pytest.raises(UsageError, match="temperature"):
        check_sampling(temperature, 1.0)


@pytest.mark.parametrize("top_p", [0.0, -1.0, 1.01, np.nan])
def test_impossible_top_p_is_refused(top_p):
    with pytest.raises(UsageError, match="top_p"):
        check_sampling(1.0, top_p)
