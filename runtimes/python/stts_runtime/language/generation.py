"""Tokens to an answer: prefill, then one token a step, over one decoder engine and its cache."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from stts_runtime.bundle.manifest import Manifest
from stts_runtime.bundle.plain import argument
from stts_runtime.engine import Array, Engine
from stts_runtime.engine.memory import new_array
from stts_runtime.errors import BundleError, LimitError, UsageError
from stts_runtime.foreign import foreign_errors
from stts_runtime.language.kv_cache import KvCache, RowCache
from stts_runtime.language.rope_positions import rope_positions
from stts_runtime.language.sampling import check_sampling, sample_token
from stts_runtime.timings import Timings


@dataclass(frozen=True)
class Generation:
    """How an answer is drawn.

    Attributes:
        max_tokens: most tokens of an answer.
        temperature: 0 takes the likeliest token (greedy); higher is more random.
        top_p: only the likeliest tokens that together reach this probability are drawn from.
        seed: of the random draw; the same seed gives the same answer.
    """

    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0

    def check(self) -> None:
        """Raise UsageError for a setting that cannot work: of another type than here, or out of range."""
        for field in fields(self):
            argument(type(field.default), getattr(self, field.name), field.name)
        if self.max_tokens < 1:
            raise UsageError(f"max_tokens is {self.max_tokens}, wanted at least 1")
        if self.seed < 0:
            raise UsageError(f"seed is {self.seed}, wanted 0 or more")
        check_sampling(self.temperature, self.top_p)


def generation_from(settings: dict[str, object]) -> Generation:
    """Return the settings of an answer.

    Raises:
        UsageError: a setting is unknown or cannot work.
    """
    known = Generation.__dataclass_fields__
    unknown = sorted(set(settings) - set(known))
    if unknown:
        raise UsageError(f"unknown setting {unknown[0]!r}; an answer takes {', '.join(known)}")
    generation = Generation(**settings)  # type: ignore[arg-type]
    generation.check()
    return generation


class Decoding:
    """A decoder engine and what it has read so far.

    Attributes:
        cache: keys and values of it.
        rope_offset: how much further on the next token is turned than its place in the sequence, which is where text
            stands that no frame lies before. Frames change it, text does not.
    """

    def __init__(self, engine: Engine, manifest: Manifest) -> None:
        self._engine, self._manifest = engine, manifest
        spec = manifest.graphs["decoder"].spec
        self.cache: KvCache | RowCache = self.new_cache()
        self.rope_offset = 0
        self._unread: list[int] = []
        self._no_features = new_array(engine.memory, spec.tensor("features"), 1)
        engine.memory.zero(self._no_features)

    def new_cache(self) -> KvCache:
        """Return a cache of this decoder, empty."""
        spec = self._manifest.graphs["decoder"].spec
        return KvCache(self._engine.memory, spec, self._manifest.limits.max_tokens)

    def head(self, count: int) -> Decoding:
        """Return another one that has read the first `count` tokens of this one, of which it has a copy.

        Behind them lies text alone, and no frame.

        Raises:
            EngineError: there is no room for it.
            UsageError: this one's cache is a row among others.
        """
        head = Decoding(self._engine, self._manifest)
        head.cache, head.rope_offset = self.own_cache.head(count), self.rope_offset
        return head

    @property
    def own_cache(self) -> KvCache:
        """The cache, where it is no row among others.

        Raises:
            UsageError: it is.
        """
        if not isinstance(self.cache, KvCache):
            raise UsageError("this conversation is decoded together with others: let it leave them first")
        return self.cache

    @property
    def unread(self) -> list[int]:
        """The last token of an answer, if it has not been read yet."""
        return self._unread

    def say(self, token: int) -> None:
        """Take a token as the answer's next: it is read with what comes after it."""
        assert not self._unread
        self._unread = [token]

    def was_read(self) -> None:
        """Take note that `unread` was read elsewhere, see `rows`."""
        assert isinstance(self.cache, RowCache)
        self.cache.length += len(self._unread)
        self._unread = []

    @property
    def length(self) -> int:
        """Tokens so far, the last of an answer included, which is read together with what follows it."""
        return self.cache.length + len(self._unread)

    def room(self, new: int, answer: int) -> int:
        """Return how many tokens an answer of at most `answer` may have after `new` more tokens are read.

        Raises:
            LimitError: the new tokens alone do not fit the bundle's limit.
        """
        limit, positions = self._manifest.limits.max_tokens, self._manifest.decoder.max_positions
        if positions is not None and (left := positions - self.rope_offset) < limit:
            limit = left
            if self.length + new >= limit:
                raise LimitError(
                    f"the conversation has {self.length + new} tokens, and its frames take {self.rope_offset} "
                    f"positions more than they have tokens: the model was made for {positions}; use fewer frames"
                )
        if self.length + new >= limit:
            raise LimitError(
                f"the conversation has {self.length + new} tokens, the bundle was built for {limit}: use fewer frames "
                "or prune more, start a new conversation, or build again with a larger --max-tokens"
            )
        return min(answer, limit - self.length - new)

    def read(
        self,
        token_ids: NDArray[np.int64],
        vision_flags: NDArray[np.bool_],
        features: Array | None = None,
        keep: NDArray[np.bool_] | None = None,
    ) -> NDArray[np.float32]:
        """Read new tokens and return the logits of the next one, float32 [vocabulary].

        Args:
            token_ids: int64 [S].
            vision_flags: bool [S].
            features: [K, sets * d_model] for the image patch tokens among them, in order; from a vision engine. Without
                it, image patch tokens are read as they are: a model may well say one.
            keep: bool [T, G], the groups that the features are of, which say where tokens stand that are turned by
                time, row and column; without it all are text. Of no account in other models.

        Raises:
            EngineError: the engine failed; what was read before is still known, the new tokens are not.
            LimitError: more tokens than the bundle was built for.
            UsageError: there are not as many image patch tokens as features or groups kept, or positions run out.
        """
        cache = self.own_cache
        rows = np.zeros(len(self._unread) + len(token_ids), np.int64)
        if features is not None:
            rows[len(self._unread) :] = feature_rows(token_ids, self._manifest.tokens.image_patch, len(features))
        if features is None or len(features) == 0:
            features = self._no_features
        token_ids = np.concatenate((np.array(self._unread, np.int64), token_ids))
        vision_flags = np.concatenate((np.zeros(len(self._unread), bool), vision_flags))
        start, count = cache.length, len(token_ids)
        with foreign_errors(lambda reason: BundleError(f"no logits are as large as the manifest says ({reason})")):
            logits = np.empty((1, self._manifest.decoder.vocabulary), np.float32)
        new = cache.outputs(count)
        turned, following = self._turned(token_ids, keep)
        self._engine.run(
            {
                "token_ids": token_ids[None],
                "features": features,
                "feature_rows": rows,
                "positions": np.arange(start, start + count, dtype=np.int64),
                "vision_flags": vision_flags,
                "rope_positions": turned,
                **cache.past(),
            },
            {"logits": logits, **new},
        )
        cache.append(vision_flags, new)
        self._unread, self.rope_offset = [], following - cache.length
        return logits[0]

    def _turned(self, token_ids: NDArray[np.int64], keep: NDArray[np.bool_] | None) -> tuple[NDArray[np.int64], int]:
        """Return time, row and column of each token, int64 [3, S], and the position of the token that follows."""
        manifest, first = self._manifest, self.cache.length + self.rope_offset
        if keep is None or manifest.decoder.rope_axes == 1:
            following = first + len(token_ids)
            return np.repeat(np.arange(first, following)[None], 3, axis=0), following
        most = manifest.decoder.max_positions
        return rope_positions(token_ids, manifest.tokens, keep, manifest.grid, first, most)

    def answer(
        self, logits: NDArray[np.float32], settings: Generation, most: int, timings: Timings
    ) -> Generator[int, NDArray[np.float32] | None, None]:
        """Yield the answer's tokens; a stop token ends it and is not yielded.

        Whoever has read a token elsewhere sends the logits of the next one; else it is read here.

        Whoever stops listening early leaves a conversation that can go on: the last token yielded is read with what
        comes next.

        Args:
            logits: float32 [vocabulary], of the first token.
            settings: how tokens are drawn.
            most: tokens at most.
            timings: gets the decode time, and why the answer ended.
        """
        random = np.random.default_rng(settings.seed)
        timings.tokens["answer_tokens"], timings.finish_reason = 0, None
        for place in range(most):
            token = sample_token(logits, settings.temperature, settings.top_p, random)
            if token in self._manifest.tokens.stop:
                timings.finish_reason = "stop"
                return
            timings.tokens["answer_tokens"] += 1
            self._unread = [token]
            given = yield token
            if given is None and place + 1 < most:
                with timings.stage("decode"):
                    given = self.read(np.zeros(0, np.int64), np.zeros(0, bool))
            if given is not None:
                logits = given
        timings.finish_reason = "length"


def feature_rows(token_ids: NDArray[np.int64], image_patch: int, count: int) -> NDArray[np.int64]:
    """Return the row of features that each token is given, int64 [S]: row k to the k-th image patch, row 0 to others.

    Args:
        token_ids: int64 [S].
        image_patch: id of the tokens that are given one.
        count: K, how many features there are.

    Raises:
        UsageError: there are not as many image patch tokens.
    """
    is_patch = token_ids == image_patch
    patches = int(is_patch.sum())
    if patches != count:
        raise UsageError(
            f"the prompt has {patches} image patch tokens and there are {count} features: each needs the other; build "
            "the prompt with as many as groups were kept"
        )
    return np.where(is_patch, np.cumsum(is_patch, dtype=np.int64) - 1, 0)
