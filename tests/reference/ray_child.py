"""A batch on a cluster of two nodes, of which one actor is killed in the middle.

    python -m reference.ray_child BUNDLE QUESTIONS OUTPUT

Prints how many actors were killed, and how many lines were written by then. A process of its own: Ray starts others,
and warns of what is none of ours.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import psutil
import ray
from ray.cluster_utils import Cluster as Nodes

from stts_runtime.batch.cluster import Cluster
from stts_runtime.batch.run import BatchRequest, answer_batch


ACTOR = "ray::MapWorker"
KILL_AT = 3


def main(bundle: str, questions: str, output: str) -> None:
    """Answer, and kill."""
    nodes = Nodes(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    nodes.add_node(num_cpus=2)
    killed: list[int] = []

    def on_line(done: int, of: int) -> None:
        if done == KILL_AT and not killed:
            actor = next(
                one for one in psutil.process_iter(["cmdline"]) if ACTOR in " ".join(one.info["cmdline"] or ())
            )
            actor.kill()
            killed.append(done)

    try:
        request = BatchRequest(Path(bundle), Path(questions), Path(output))
        result = answer_batch(request, Cluster(nodes.address, actors=2).answer, on_line)
        said = {"killed": killed, "questions": result.questions, "failed": result.failed}
        sys.stdout.write(f"{json.dumps(said)}\n")
    finally:
        ray.shutdown()
        nodes.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
