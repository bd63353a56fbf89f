"""Replicas of the server over a Ray cluster, as many as requests want.

    pip install 'stts-runtime[cpu,serve]' 'ray[serve]'
    STTS_BUNDLE=/models/nano.stts serve run examples.serve_on_ray:server

Each replica holds the bundle open, and answers at http://127.0.0.1:8000/v1 as `stts-runtime serve` does, streams too.
Ray starts another one where too many requests wait at those there are. A replica knows the clips, files and
conversations that it has seen itself: send clips with their question, not to /v1/files.
"""

import os
from pathlib import Path

from ray import serve
from starlette.types import ASGIApp

from stts_runtime import load
from stts_runtime.serve.app import Server, ServerSettings
from stts_runtime.serve.limits import ServerLimits


ANSWERING = 8
"""Answers that a replica makes at once; as many more may wait at it."""


def replica() -> ASGIApp:
    """Return a replica's routes, the bundle open."""
    bundle = Path(os.environ["STTS_BUNDLE"])
    session = load(bundle)
    session.open()
    limits = ServerLimits(answering=ANSWERING, waiting=ANSWERING)
    return Server(session, ServerSettings(bundle.stem, limits)).app()


server = serve.deployment(
    serve.ingress(replica)(),
    name="stts",
    max_ongoing_requests=2 * ANSWERING,
    autoscaling_config={"min_replicas": 1, "max_replicas": 8, "target_ongoing_requests": ANSWERING},
    ray_actor_options={"num_cpus": 1},  # of TensorRT: {"num_gpus": 1}
).bind()
