"""Tokens to an answer: prefill, then one token a step, over one decoder engine and its cache."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stts_runtime.engine import Engine
from stts_runtime.errors import ProfileError, UsageError
from stts_runtime.kv_cache import KvCache
from stts_runtime.manifest import Manifest
from stts_runtime.profile import Profile
from stts_runtime.sampling import check_sampling, sample_token


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
        """Raise UsageError for a setting that cannot work."""
        if self.max_tokens < 1:
            raise UsageError(f"max_tokens is {self.max_tokens}, wanted at least 1")
        if self.seed < 0:
            raise UsageError(f"seed is {self.seed}, wanted 0 or more")
        check_sampling(self.temperature, self.top_p)


class Decoding:
    """A decoder engine and what it has read so far."""

    def __init__(self, engine: Engine, manifest: Manifest) -> None:
        self._engine, self._manifest = engine, manifest
        shape = manifest.decoder
        self._cache = KvCache(shape.layers, shape.kv_heads, shape.head_dim)
        self._unread: list[int] = []
        self._flags = np.zeros(0, bool)

    @property
    def length(self) -> int:
        """Tokens so far, the last of an answer included, which is read together with what follows it."""
        return len(self._flags) + len(self._unread)

    def room(self, new: int, answer: int) -> int:
        """Return how many tokens an answer of at most `answer` may have after `new` more tokens are read.

        Raises:
            ProfileError: the new tokens alone do not fit the bundle's profile.
        """
        limit = self._manifest.limits.max_tokens
        if self.length + new >= limit:
            raise ProfileError(
                f"the conversation has {self.length + new} tokens, the bundle was built for {limit}: use fewer frames "
                "or prune more, start a new conversation, or build again with a larger --max-tokens"
            )
        return min(answer, limit - self.length - new)

    def read(
        self, token_ids: NDArray[np.int64], vision_flags: NDArray[np.bool_], features: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Read new tokens and return the logits of the next one, float32 [vocabulary].

        Args:
            token_ids: int64 [S].
            vision_flags: bool [S].
            features: float32 [K, d_model] for the image patch tokens among them, in order.
        """
        shape = self._manifest.decoder
        if features is None or len(features) == 0:
            features = np.zeros((1, shape.width), np.float32)
        token_ids = np.concatenate((np.array(self._unread, np.int64), token_ids))
        vision_flags = np.concatenate((np.zeros(len(self._unread), bool), vision_flags))
        past, total = len(self._flags), len(self._flags) + len(token_ids)
        logits = np.empty((1, shape.vocabulary), np.float32)
        past_tensors = self._cache.past()
        present_tensors = [np.empty((1, shape.kv_heads, total, shape.head_dim), np.float32) for _ in past_tensors]
        names = [f"{kind}_{layer}" for layer in range(shape.layers) for kind in ("key", "value")]
        self._engine.run(
            {
                "token_ids": token_ids[None],
                "features": features,
                "positions": np.arange(past, total, dtype=np.int64),
                "past_vision_flags": self._flags,
                "vision_flags": vision_flags,
                **{f"past_{name}": tensor for name, tensor in zip(names, past_tensors, strict=True)},
            },
            {
                "logits": logits,
                **{f"present_{name}": tensor for name, tensor in zip(names, present_tensors, strict=True)},
            },
        )
        self._cache.replace(present_tensors)
        self._flags, self._unread = np.concatenate((self._flags, vision_flags)), []
        return logits[0]

    def answer(self, logits: NDArray[np.float32], settings: Generation, most: int, profile: Profile) -> Iterator[int]:
        """Yield the answer's tokens; a stop token ends it and is not yielded.

        Whoever stops listening early leaves a conversation that can go on: the last token yielded is read with what
        comes next.

        Args:
            logits: float32 [vocabulary], of the first token.
            settings: how tokens are drawn.
            most: tokens at most.
            profile: gets the decode time.
        """
        random = np.random.default_rng(settings.seed)
        profile.tokens["answer_tokens"] = 0
        for place in range(most):
            if place > 0:
                with profile.stage("decoding"):
                    logits = self.read(np.zeros(0, np.int64), np.zeros(0, bool))
            token = sample_token(logits, settings.temperature, settings.top_p, random)
            if token in self._manifest.tokens.stop:
                return
            profile.tokens["answer_tokens"] += 1
            self._unread = [token]
            yield token
