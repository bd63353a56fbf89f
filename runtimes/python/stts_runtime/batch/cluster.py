"""The same answers by many machines: Ray Data hands tasks to actors that hold the bundle open.

A task is answered again where its actor dies; its answers are taken once, as they arrive with their places.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stts_runtime.batch.answer import Answer, Settings, answers_of
from stts_runtime.batch.questions import Task, places
from stts_runtime.bundle.open import open_bundle
from stts_runtime.bundle.plain import from_plain, to_plain
from stts_runtime.errors import EngineError, UsageError
from stts_runtime.session import Session, load


@dataclass(frozen=True)
class Cluster:
    """Where, and how much of it."""

    # of the cluster, `auto` for the one that this machine is in; None begins one of this machine alone
    address: str | None = None
    actors: int = 2  # that hold the bundle open, each in a process of its own
    cpus: float = 1.0  # that an actor takes; engines start as many threads

    def checked(self) -> Cluster:
        """Return it.

        Raises:
            UsageError: no actor could work.
        """
        if self.actors < 1 or not 0 < self.cpus < float("inf"):
            raise UsageError(
                f"{self.actors} actors of {self.cpus} processors, wanted at least 1, and more than none of them"
            )
        return self

    def answer(self, bundle: Path, tasks: tuple[Task, ...], settings: Settings) -> Iterator[tuple[int, Answer]]:
        """Yield places and answers as they come; see `run.Answering`.

        Raises:
            UsageError: Ray is missing.
            EngineError: the cluster cannot be reached, or the actors failed.
        """
        try:
            import ray
        except ImportError:
            raise UsageError("answering on a cluster needs Ray: pip install 'stts-runtime[ray]'") from None
        gpus = 1 if open_bundle(bundle).manifest.engine.device == "cuda" else 0
        try:
            ray.init(
                self.address or "local", ignore_reinit_error=True, log_to_driver=False, logging_level=logging.ERROR
            )
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise EngineError(f"the Ray cluster at {self.address} cannot be reached: {error}") from None
        logging.getLogger("ray.data").setLevel(logging.WARNING)
        ray.data.DataContext.get_current().enable_progress_bars = False
        shared = {"bundle": str(bundle.absolute()), "settings": to_plain(settings), "cpus": self.cpus}
        rows = [{"task": json.dumps({**shared, "task": to_plain(task)})} for task in tasks]
        answered = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            Answerer,
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=self.actors),
            num_cpus=self.cpus,
            num_gpus=gpus,
        )
        try:
            for row in answered.iter_rows():
                yield int(row["place"]), from_plain(Answer, json.loads(row["answer"]), "an actor's answer", EngineError)
        except ray.exceptions.RayError as error:
            raise EngineError(f"the cluster could not answer: {str(error).strip().splitlines()[-1]}") from None


class Answerer:
    """An actor: a bundle held open. It is told which with each task: what an actor is made of is lost with its node."""

    def __init__(self) -> None:
        self._session: Session | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        """Return the places and answers of the tasks in a batch."""
        found: dict[str, list[Any]] = {"place": [], "answer": []}
        for text in batch["task"]:
            told = json.loads(text)
            task = from_plain(Task, told["task"], "a task")
            settings = from_plain(Settings, told["settings"], "settings")
            if self._session is None:
                os.environ.setdefault("STTS_THREADS", str(max(1, int(told["cpus"]))))
                self._session = load(told["bundle"])
            for place, answer in zip(places(task), answers_of(self._session, task, settings), strict=True):
                found["place"].append(place)
                found["answer"].append(json.dumps(to_plain(answer)))
        return found
