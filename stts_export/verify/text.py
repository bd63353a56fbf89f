"""What rounding weights, or keys and values, costs on text, token by token, against the model in floats.

Twice: by the weights alone, in torch, and as the bundle computes, whose products may round what they read as well.

The text is documentation that every Python brings, so that anyone can run it again. A part is read in one prefill, the
rest a token at a time, each with the text's own tokens before it (teacher forcing).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from stts_export.checkpoint.records import Checkpoint
from stts_export.quantise.checkpoint import as_rounded
from stts_export.quantise.choice import roundings_of
from stts_export.recipe.config import ModelConfig
from stts_export.verify.rounded_text import logits_of_variants
from stts_runtime.bundle.manifest import FLOAT, EngineSettings
from stts_runtime.bundle.open import Bundle
from stts_runtime.errors import SttsError
from stts_runtime.language.generation import Decoding
from stts_runtime.language.tokenizer import Tokenizer
from stts_runtime.progress import OnProgress, no_progress
from stts_runtime.session import Session
from stts_runtime.verify.compare import failure
from stts_runtime.verify.report import FAILED, PASSED, CaseResult, Comparison


PART, CASE = "decoder", "held-out text"
READ, ASKED = 64, 448
"""Tokens that are read in one piece, and that are then asked for one by one."""
TOPICS = ("booleans", "truth", "break", "del", "power", "raise", "while", "unary", "lambda", "exprlists")
DIGEST = "cb1b574836bbea2a6bfccd63b3ab3db05f6eb189ad236ff9a98471160b29d75a"
"""SHA-256 of the text, as Python 3.11 has it, that the limits were set with."""


@dataclass(frozen=True)
class TextCost:
    """What rounding costs."""

    perplexity: float  # of the text, as a multiple of the model's in floats
    top1: float  # share of places at which both name the same token


@dataclass(frozen=True)
class TextLimit:
    """What a model that rounds is held to."""

    perplexity: float  # most that the text's perplexity may grow by, as a ratio
    top1: float  # least share of places at which both name the same token

    def passes(self, cost: TextCost) -> bool:
        """Tell whether a model that costs so much is good enough."""
        return cost.perplexity <= self.perplexity and cost.top1 >= self.top1

    def times(self, other: TextLimit) -> TextLimit:
        """Return what two roundings after one another are held to."""
        return TextLimit(self.perplexity * other.perplexity, self.top1 * other.top1)


LIMITS = {
    "int8": TextLimit(1.01, 0.965),
    "fp8": TextLimit(1.05, 0.90),
    "int4": TextLimit(1.12, 0.80),
    "q4_1": TextLimit(1.12, 0.80),
    "nvfp4": TextLimit(1.12, 0.80),
}
"""Of the weights alone, by what they are stored in."""
ROUNDED_PRODUCTS = TextLimit(1.02, 0.94)
"""How much more it may cost that products round what they read, to 8 bits."""
HALF_PRODUCTS = TextLimit(1.01, 0.97)
"""The same of products in half precision."""
ROUNDED_CACHE = TextLimit(1.01, 0.96)
"""The same of keys and values that are kept in 8 bits."""
WAY_OUT = (
    "leave some layers in floats with --keep-float (`stts-export sensitivity` finds which), or all with --weights float"
)
CACHE_WAY_OUT = "leave keys and values in floats with --kv-cache float"
CACHE_TOO = ", or keys and values with --kv-cache float"


def compare_text(
    bundle: Bundle,
    engine: EngineSettings,
    config: ModelConfig,
    checkpoint: Checkpoint,
    on_progress: OnProgress = no_progress,
) -> tuple[CaseResult | None, tuple[str, ...]]:
    """Return how a bundle that rounds weights or its cache reads text, None where it cannot be asked, and notes on it.

    Memory: see `logits_of_variants`.

    Args:
        bundle: the bundle, or what stands for it on a CPU.
        engine: what it was built for.
        config: its model.
        checkpoint: the model's weights, in floats.
        on_progress: told how far it is.

    Raises:
        CheckpointError: a tensor cannot be read.
    """
    manifest = bundle.manifest
    if manifest.tokenizer is None:
        return None, ("what rounding costs was not asked: the weights are random, and no text means anything to them",)
    with Session(bundle) as session:
        ids = text_ids(session.tokenizer, manifest.limits.max_tokens)
        if ids is None:
            note = "what rounding costs was not asked: the model does not know the text's words, see `stts-export eval`"
            return None, (note,)
        try:
            got = bundle_logits(session, ids, on_progress)
        except SttsError as error:
            return CaseResult(PART, CASE, (failure("running it", str(error)),)), ()
    roundings = roundings_of(engine, config)
    variants = [frozenset[str](), *([frozenset(roundings)] if engine.weights != FLOAT else [])]
    rounded, first = as_rounded(checkpoint, roundings), len(ids) - 1 - len(got)
    expected, *alone = logits_of_variants(config, checkpoint, rounded, variants, ids[:-1], first)
    following, limit = ids[-len(got) :], limit_as_computed(engine)
    found: list[Comparison] = []
    for logits in alone:
        found += compared("weights alone", expected, logits, following, LIMITS[engine.weights], WAY_OUT)
    way = CACHE_WAY_OUT if engine.weights == FLOAT else f"{WAY_OUT}{CACHE_TOO if engine.kv_cache != FLOAT else ''}"
    found += compared("as computed", expected, got, following, limit, way)
    return CaseResult(PART, CASE, tuple(found)), text_notes()


def limit_as_computed(engine: EngineSettings) -> TextLimit:
    """Return what a bundle is held to, whose weights, products and cache may each be rounded."""
    limits = [
        *([LIMITS[engine.weights]] if engine.weights != FLOAT else []),
        *([ROUNDED_CACHE] if engine.kv_cache != FLOAT else []),
    ]
    if engine.has_rounded_products:
        limits.append(ROUNDED_PRODUCTS)
    elif engine.precision != "float32":
        limits.append(HALF_PRODUCTS)
    return reduce(TextLimit.times, limits)


def text_ids(tokenizer: Tokenizer, most: int) -> NDArray[np.int64] | None:
    """Return the text as token ids, cut to `most`; None where a model does not know its words."""
    text = python_text()
    if tokenizer.unknown_words(text):
        return None
    return np.array(tokenizer.encode(text, specials=False)[: min(READ + ASKED + 1, most)], np.int64)


def python_text() -> str:
    """Return some 4,000 characters of documentation in English."""
    from pydoc_data import topics

    return "\n".join(topics.topics[name] for name in TOPICS)


def text_notes() -> tuple[str, ...]:
    """Return what a reader should know of the text: where it is not the one that limits were set with."""
    if hashlib.sha256(python_text().encode()).hexdigest() == DIGEST:
        return ()
    return ("the limits of the text were set with Python 3.11's documentation; this Python's has other words",)


def bundle_logits(session: Session, ids: NDArray[np.int64], on_progress: OnProgress) -> NDArray[np.float32]:
    """Return the logits of what follows each token from `READ` on: float32 [tokens, vocabulary]."""
    decoding = Decoding(session.engine("decoder"), session.manifest)
    read = min(READ, len(ids) - 1)
    logits = [decoding.read(ids[:read], np.zeros(read, bool))]
    for place in range(read, len(ids) - 1):
        logits.append(decoding.read(ids[place : place + 1], np.zeros(1, bool)))
        on_progress("text", (place + 1) / len(ids))
    return np.stack(logits)


def compared(
    name: str,
    expected: NDArray[np.float32],
    got: NDArray[np.float32],
    following: NDArray[np.int64],
    limit: TextLimit,
    way_out: str,
) -> tuple[Comparison, ...]:
    """Return perplexity and most likely tokens of two that read the same text.

    Args:
        name: of the other.
        expected: float32 [tokens, vocabulary], the model's logits.
        got: the other's.
        following: int64 [tokens], the token that follows in each place.
        limit: what passes.
        way_out: what would do where it does not.
    """
    if not np.isfinite(got).all():
        return (failure(f"logits, {name}", "some are NaN or infinite"),)
    wanted, found = perplexity(expected, following), text_cost(expected, got, following)
    times, same = found.perplexity, found.top1
    told = f"{wanted * times:.3f}, in floats {wanted:.3f}: {times:.4f} times, allowed {limit.perplexity:g}"
    agree = f"{same:.1%} of {len(got)} are the model's, wanted {limit.top1:.1%}"
    verdicts = times <= limit.perplexity, same >= limit.top1
    way = "" if limit.passes(found) else f"; {way_out}"
    return (
        Comparison(f"perplexity, {name}", PASSED if verdicts[0] else FAILED, message=told + way),
        Comparison(f"likeliest token, {name}", PASSED if verdicts[1] else FAILED, overlap=same, message=agree + way),
    )


def text_cost(expected: NDArray[np.float32], got: NDArray[np.float32], following: NDArray[np.int64]) -> TextCost:
    """Return what the model that `got` these logits costs beside the one that is `expected`; as for `compared`."""
    ratio = perplexity(got, following) / perplexity(expected, following)
    return TextCost(ratio, float((expected.argmax(1) == got.argmax(1)).mean()))


def perplexity(logits: NDArray[np.float32], following: NDArray[np.int64]) -> float:
    """Return exp of the mean negative log-likelihood of the `following` tokens, one a row of `logits`."""
    exact = logits.astype(np.float64)
    exact -= exact.max(1, keepdims=True)
    likelihood = exact[np.arange(len(exact)), following] - np.log(np.exp(exact).sum(1))
    return float(np.exp(-likelihood.mean()))
