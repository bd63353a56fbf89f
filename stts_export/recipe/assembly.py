"""How a model that comes without a checkpoint is put together, and which ways to do so cannot work."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from stts_export.errors import RecipeError
from stts_export.recipe.config import DecoderConfig, ModelConfig
from stts_export.recipe.findings import Finding, choice, refuse
from stts_runtime.bundle.manifest import Prompt
from stts_runtime.language.prompt import MARKERS, PLACES


ASSEMBLED = "assembled"
PLAIN, STRUCTURED = "plain", "structured"
STARTS = (PLAIN, STRUCTURED)
UNKNOWN, BOS, END = "<unk>", "<bos>", "<end>"
CONTROL_WORDS = (UNKNOWN, BOS, END)
"""The first rows of a vocabulary of words, in this order; behind the words lie `MARKERS`, in theirs."""
WORD = r"\d+(?:\.\d+)*|[^\W\d_]+|[^\w\s]|_"
"""What text is cut into: a number with its points, letters in a row, any other sign alone. Blanks only separate."""
LOCAL_PLANES = 3
SHORTEST_WAVE = 8.0  # tokens


@dataclass(frozen=True)
class Assembly:
    """How a model is put together: decoder and tokenizer come from a package, or from the seed and a list of words."""

    seed: int  # of all tensors that come from nowhere else
    package: str | None = None  # installed Python package that carries the decoder and its tokenizer as a GGUF file
    # or the vocabulary of a seeded decoder: lower-cased words, numbers and punctuation. Ids follow from their order,
    # behind those of `CONTROL_WORDS`.
    words: tuple[str, ...] = ()
    start: str = PLAIN  # of seeded weights: `plain`, or `structured` for small decoders, see checkpoint/structured.py
    # trained weights, laid over the others: a shipped folder's name, or the absolute path of one's own. None for none.
    trained: str | None = None


def check_assembly(source: str, assembly: Assembly | None, config: ModelConfig, where: str) -> None:
    """Raise RecipeError unless the table `assembly` is given for, and only for, an assembled model, and can work."""
    if (assembly is not None) != (source == ASSEMBLED):
        got = "missing" if assembly is None else "given"
        raise RecipeError(f"{where}: table assembly is {got} with source = {source!r}; wanted with {ASSEMBLED!r} only")
    if assembly is not None:
        refuse(_assembly(assembly, config), where)


def local_planes(head_dim: int, theta: float) -> tuple[int, ...]:
    """Return which planes of a rotary head tell near from far: the fastest whose waves are longer than eight tokens.

    Plane i turns by theta^(-2 i / head_dim) a token (arXiv 2104.09864). The very fastest come round after a few tokens
    and would take those for neighbours too. At most three are returned.
    """
    waves = [2 * math.pi * theta ** (2 * plane / head_dim) for plane in range(head_dim // 2)]
    return tuple(plane for plane, wave in enumerate(waves) if wave > SHORTEST_WAVE)[:LOCAL_PLANES]


def words_of(text: str) -> list[str]:
    """Return the words a text is cut into, as a vocabulary of words has them: lower-cased, punctuation sign by sign."""
    return re.findall(WORD, text.lower())


def _assembly(assembly: Assembly, config: ModelConfig) -> Iterator[Finding]:
    yield choice("assembly.start", assembly.start, STARTS)
    both = {"package": assembly.package, "words": len(assembly.words)}
    wanted = "a package or a list of words: either is where decoder and tokenizer come from"
    yield "assembly", (assembly.package is None) == (len(assembly.words) > 0), both, wanted
    if assembly.package is None:
        yield from _words(assembly.words, config)
    if assembly.start == STRUCTURED:
        yield "assembly.start", assembly.package is None, STRUCTURED, f"{PLAIN!r}: the package's decoder is trained"
        yield from _structured(config.decoder)


def _words(words: tuple[str, ...], config: ModelConfig) -> Iterator[Finding]:
    for word in words:
        wanted = "lower-cased letters, a number, or one sign of punctuation: text is cut into these"
        yield "assembly.words", words_of(word) == [word], word, wanted
    twice = [word for word, count in Counter(words).items() if count > 1]
    yield "assembly.words", not twice, twice, "each word once"
    rows, count = len(CONTROL_WORDS) + len(words), config.decoder.vocabulary
    wanted = f"{rows}: {', '.join(CONTROL_WORDS)} and {len(words)} words"
    yield "decoder.vocabulary", count == rows, count, wanted
    extra, needed = config.decoder.extra_vocabulary, len(MARKERS)
    yield "decoder.extra_vocabulary", extra >= needed, extra, f"{needed} rows or more: markers lie behind the words"
    tokens = config.tokens
    for row, name in enumerate(MARKERS, start=rows):
        got = getattr(tokens, name)
        yield f"tokens.{name}", got == row, got, f"{row}: markers lie behind the words, {', '.join(MARKERS)}"
    bos, end = CONTROL_WORDS.index(BOS), CONTROL_WORDS.index(END)
    yield "tokens.bos", tokens.bos == bos, tokens.bos, f"{bos}, which is {BOS}"
    yield "tokens.stop", tokens.stop == (end,), tokens.stop, f"{[end]}, which is {END}"
    missing = [word for word in _prompt_words(config.prompt) if word not in words]
    yield "prompt", not missing, missing, "no word that assembly.words does not have"


def _prompt_words(prompt: Prompt) -> list[str]:
    text = PLACES.sub(" ", " ".join(vars(prompt).values()))
    for mark in (*CONTROL_WORDS, *MARKERS.values()):
        text = text.replace(mark, " ")
    return words_of(text)


def _structured(decoder: DecoderConfig) -> Iterator[Finding]:
    why = f"with assembly.start = {STRUCTURED!r}"
    yield "decoder.attention_bias", decoder.attention_bias, decoder.attention_bias, f"true {why}"
    yield "decoder.query_key_norm", decoder.query_key_norm == "none", decoder.query_key_norm, f"'none' {why}"
    yield "decoder.block_norm", decoder.block_norm == "pre", decoder.block_norm, f"'pre' {why}"
    yield "decoder.kv_heads", decoder.kv_heads == decoder.heads, decoder.kv_heads, f"as many as heads {why}"
    width = decoder.heads * decoder.head_dim
    yield "decoder.width", decoder.width == width, decoder.width, f"heads * head_dim = {width} {why}"
    yield "decoder.yarn", decoder.yarn is None, decoder.yarn, f"none {why}"
    planes = len(local_planes(decoder.head_dim, decoder.rope_theta))
    wanted = f"a head with {LOCAL_PLANES} waves longer than {SHORTEST_WAVE:g} tokens {why}, got {planes}"
    yield "decoder.head_dim", planes == LOCAL_PLANES, decoder.head_dim, wanted
    yield "decoder.heads", decoder.heads > 2, decoder.heads, f"3 or more {why}: two of them are local"
