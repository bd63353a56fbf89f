"""The example of a Ray Serve application, on a cluster of this machine.

    STTS_BUNDLE=BUNDLE python -m reference.ray_serve_child CLIP QUESTION

Prints the model's name, an answer, and the same as a stream. A process of its own, see `ray_child`.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import sys
from pathlib import Path

import ray
from openai import OpenAI
from ray import serve


EXAMPLE = Path(__file__).parents[2] / "examples/serve_on_ray.py"
PASSED_ON = ("STTS_BUNDLE", "PYTHONPATH", "STTS_THREADS")


def main(clip: str, question: str) -> None:
    """Serve, and ask."""
    spec = importlib.util.spec_from_file_location("serve_on_ray", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    passed_on = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    passed_on["PYTHONPATH"] = os.pathsep.join([str(EXAMPLE.parent), passed_on.get("PYTHONPATH", "")])
    ray.init("local", num_cpus=2, log_to_driver=False, include_dashboard=False, runtime_env={"env_vars": passed_on})
    sys.modules["serve_on_ray"] = example
    try:
        serve.start(http_options={"port": int(os.environ["STTS_PORT"])})
        serve.run(example.server, name="stts")
        client = OpenAI(base_url=f"http://127.0.0.1:{os.environ['STTS_PORT']}/v1", api_key="none", max_retries=0)
        url = f"data:video/mp4;base64,{base64.b64encode(Path(clip).read_bytes()).decode()}"
        parts = [{"type": "video_url", "video_url": {"url": url}}, {"type": "text", "text": question}]
        model = client.models.list().data[0].id
        asked = {"model": model, "messages": [{"role": "user", "content": parts}]}
        whole = client.chat.completions.create(**asked).choices[0].message.content
        pieces = [
            chunk.choices[0].delta.content or "" for chunk in client.chat.completions.create(**asked, stream=True)
        ]
        sys.stdout.write(json.dumps({"model": model, "whole": whole, "streamed": "".join(pieces)}) + "\n")
    finally:
        serve.shutdown()
        ray.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
