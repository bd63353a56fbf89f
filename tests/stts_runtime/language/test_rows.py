"""Conversations decoded together say what each says alone, whoever joins and leaves in between."""

import numpy as np
import pytest
from reference.toy_bundle import toy_config, toy_model
from reference.toy_manifest import model_manifest

from stts_export.parts import parts_of
from stts_export.verify.torch_part import TorchEngine, torch_manifest
from stts_runtime.bundle.manifest import Limits, Manifest
from stts_runtime.errors import LimitError, UsageError
from stts_runtime.language.generation import Decoding
from stts_runtime.language.kv_cache import ROOM_STEP
from stts_runtime.language.rows import Rows


TEXT = np.zeros(1, bool)
LIMITS = Limits(max_frames=2, max_tokens=ROOM_STEP + 24, chunk_frames=2, max_rows=4)


class Toy:
    """A toy decoder in torch, of one conversation and of several."""

    def __init__(self, kind: str, kv_cache: str) -> None:
        config = toy_config(kind, "none")
        made = parts_of(toy_model(config), config, LIMITS, "none", kv_cache=kv_cache)
        parts = {part.spec.name: part for part in made}
        self.manifest: Manifest = torch_manifest(model_manifest(config, limits=LIMITS), parts.values())
        self.one, self.several = TorchEngine(parts["decoder"]), TorchEngine(parts["decoder_rows"])
        self.words = config.decoder.vocabulary

    def talk(self, seed: int, tokens: int) -> Decoding:
        """A conversation that has read so many tokens and said one."""
        ids = np.random.default_rng(seed).integers(3, self.words, tokens)
        decoding = Decoding(self.one, self.manifest)
        decoding.say(int(decoding.read(ids, np.arange(tokens) % 3 == 0).argmax()))
        return decoding


@pytest.fixture(params=[("qwen3", "float"), ("llama", "int8"), ("olmo3", "float")], ids="-".join, scope="module")
def toy(request: pytest.FixtureRequest) -> Toy:
    return Toy(*request.param)


def alone(decoding: Decoding, count: int) -> list[int]:
    """What the conversation goes on with, by itself."""
    said = []
    for _ in range(count):
        said.append(int(decoding.read(np.zeros(0, np.int64), np.zeros(0, bool)).argmax()))
        decoding.say(said[-1])
    return said


def together(rows: Rows, decodings: list[Decoding], count: int) -> list[list[int]]:
    """What the conversations go on with, side by side."""
    said: list[list[int]] = [[] for _ in decodings]
    for _ in range(count):
        for logits, decoding, words in zip(rows.step(decodings), decodings, said, strict=True):
            words.append(int(logits.argmax()))
            decoding.say(words[-1])
    return said


def test_each_says_what_it_says_alone(toy: Toy) -> None:
    lengths = (5, 40, 17)
    expected = [alone(toy.talk(seed, length), 8) for seed, length in enumerate(lengths)]
    rows = Rows(toy.several, toy.manifest)
    assert together(rows, [toy.talk(seed, length) for seed, length in enumerate(lengths)], 8) == expected


def test_who_joins_and_leaves_changes_nothing_for_the_others(toy: Toy) -> None:
    a, b, c, d = (toy.talk(seed, 9 + 5 * seed) for seed in range(4))
    said = {id(one): [] for one in (a, b, c, d)}
    rows = Rows(toy.several, toy.manifest)

    def step(*decodings: Decoding) -> None:
        for one, words in zip(decodings, together(rows, list(decodings), 2), strict=True):
            said[id(one)] += words

    step(a, b)
    step(c, b, a)  # in any order
    rows.leave(a, keep=True)  # the first of them: the last takes its place
    step(b, c, d)
    said[id(a)] += alone(a, 2)  # with a cache of its own again
    rows.leave(c, keep=False)
    step(b, d, a)
    assert c not in rows
    for seed, one in enumerate((a, b, c, d)):
        words = said[id(one)]
        assert words == alone(toy.talk(seed, 9 + 5 * seed), len(words))


def test_a_cache_that_comes_back_is_the_one_it_would_have_been(toy: Toy) -> None:
    expected, decoding = toy.talk(1, 12), toy.talk(1, 12)
    alone(expected, 3)
    rows = Rows(toy.several, toy.manifest)
    together(rows, [decoding, toy.talk(2, 30)], 3)
    rows.leave(decoding, keep=True)
    assert decoding.length == expected.length
    held, wanted = decoding.own_cache, expected.own_cache
    assert np.array_equal(held.vision_flags, wanted.vision_flags)
    for name, array in wanted.past().items():
        got = np.asarray(held.past()[name])
        assert got.shape == np.asarray(array).shape
        np.testing.assert_allclose(got.astype(float), np.asarray(array).astype(float), atol=1e-5)


def test_rows_grow_with_the_longest_and_hold_no_more_than_was_built_for(toy: Toy) -> None:
    rows = Rows(toy.several, toy.manifest)
    long, short = toy.talk(1, ROOM_STEP - 2), toy.talk(2, 4)
    expected = [alone(toy.talk(1, ROOM_STEP - 2), 6), alone(toy.talk(2, 4), 6)]
    assert together(rows, [long, short], 6) == expected
    others = [toy.talk(seed, 4) for seed in (3, 4)]
    together(rows, [long, short, *others], 1)
    with pytest.raises(LimitError, match=r"5 conversations .* was built to decode 4 .* a larger --batch"):
        rows.step([long, short, *others, toy.talk(5, 4)])
    for one in (short, *others):
        rows.leave(one, keep=False)
    with pytest.raises(LimitError, match="or --max-tokens"):
        together(rows, [long], LIMITS.max_tokens)


def test_a_row_is_not_read_by_itself(toy: Toy) -> None:
    rows, decoding = Rows(toy.several, toy.manifest), toy.talk(1, 5)
    rows.step([decoding])
    with pytest.raises(UsageError, match="let it leave them first"):
        decoding.read(np.array([3]), TEXT)
