#!/usr/bin/env python3
"""Time tokens of several conversations decoded together, beside the same answers made one after another.

    stts-export build --model micro --batch 8 -o build/micro-rows.stts
    python tools/bench_rows.py build/micro-rows.stts -o build/bench-rows

Prompts are of text alone, as long as asked for. Both ways start from copies of the same caches and say the same tokens,
which is checked. Then the attention of one round in two forms: a row of keys a conversation, filled up to the longest,
which is what `decoder_rows` has; and one flat list of all keys and a mask. OUTPUT gets bench-rows.json, .md and .png.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import onnx_ir as ir
import onnxruntime
from numpy.typing import NDArray

from stts_export.report.tables import markdown_table
from stts_runtime import Session, load
from stts_runtime.bundle.swap import write_whole
from stts_runtime.errors import SttsError, UsageError
from stts_runtime.language.generation import Decoding
from stts_runtime.language.rows import Rows as TogetherRows
from stts_runtime.text_table import Rows, text_table


FORM_RUNS = 20


@dataclass(frozen=True)
class Timed:
    """One length of prompt; medians over runs."""

    prompt: int  # tokens of each conversation
    alone: float  # seconds for all answers, one after another
    together: float  # seconds for all answers, decoded together
    tokens: int  # of all answers
    same: int  # of them that both ways said, up to each answer's first difference
    rows: float  # seconds of a round's attention in all layers: a row a conversation
    flat: float  # the same over one list of keys, masked


def main(given: list[str] | None = None) -> int:
    """Time, print and write; `given` are the words of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    option = parser.add_argument
    option("bundle", type=Path, help="of `build --batch N`")
    option("--conversations", type=int, default=8, metavar="R", help="(default: %(default)s)")
    option("--prompts", type=int, nargs="+", default=[128, 256, 512, 1024, 1536, 2048], metavar="TOKENS")
    option("--tokens", type=int, default=64, help="of an answer (default: %(default)s)")
    option("--runs", type=int, default=3, help="of which the median is told (default: %(default)s)")
    option("-o", "--output", type=Path, required=True, help="folder for what is written")
    option("--json", action="store_true")
    arguments = parser.parse_args(given)
    try:
        with load(arguments.bundle) as session:
            timed = [measure(session, prompt, arguments) for prompt in arguments.prompts]
    except SttsError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    write(timed, arguments)
    return 0


def measure(session: Session, prompt: int, arguments: argparse.Namespace) -> Timed:
    """Return the times at one length of prompt."""
    manifest, count, tokens = session.manifest, arguments.conversations, arguments.tokens
    if "decoder_rows" not in manifest.graphs:
        raise UsageError(f"{arguments.bundle} decodes one conversation at a time: build it with --batch {count}")
    random = np.random.default_rng(prompt)
    begun: list[tuple[Decoding, int]] = []
    for _ in range(count):
        decoding = Decoding(session.engine("decoder"), manifest)
        ids = random.integers(0, min(manifest.decoder.vocabulary, manifest.tokens.image_patch), prompt)
        begun.append((decoding, int(decoding.read(ids, np.zeros(prompt, bool)).argmax())))

    def copies() -> list[Decoding]:
        found = [decoding.head(prompt) for decoding, _ in begun]
        for decoding, (_, first) in zip(found, begun, strict=True):
            decoding.say(first)
        return found

    said: dict[str, list[list[int]]] = {}
    times: dict[str, list[float]] = {"alone": [], "together": []}
    for _ in range(arguments.runs):
        for name in times:
            decodings = copies()
            start = perf_counter()
            said[name] = (
                one_after_another(decodings, tokens) if name == "alone" else together(session, decodings, tokens)
            )
            times[name].append(perf_counter() - start)
    rows, flat = forms(session, count, prompt)
    return Timed(
        prompt,
        median(times["alone"]),
        median(times["together"]),
        count * tokens,
        sum(map(alike, said["alone"], said["together"])),
        rows,
        flat,
    )


def one_after_another(decodings: list[Decoding], tokens: int) -> list[list[int]]:
    """Return the answers, each decoded to its end before the next begins."""
    answers = []
    for decoding in decodings:
        answers.append([*decoding.unread])
        for _ in range(tokens - 1):
            token = int(decoding.read(np.zeros(0, np.int64), np.zeros(0, bool)).argmax())
            decoding.say(token)
            answers[-1].append(token)
    return answers


def together(session: Session, decodings: list[Decoding], tokens: int) -> list[list[int]]:
    """Return the answers, a token of each a run."""
    rows = TogetherRows(session.engine("decoder_rows"), session.manifest)
    answers = [[*decoding.unread] for decoding in decodings]
    for _ in range(tokens - 1):
        for answer, decoding, logits in zip(answers, decodings, rows.step(decodings), strict=True):
            answer.append(int(logits.argmax()))
            decoding.say(answer[-1])
    return answers


def alike(answer: list[int], other: list[int]) -> int:
    """Return how many tokens come before the first difference; near-ties may be told apart by rounding."""
    return next(
        (place for place, pair in enumerate(zip(answer, other, strict=True)) if pair[0] != pair[1]), len(answer)
    )


def forms(session: Session, count: int, past: int) -> tuple[float, float]:
    """Return seconds of a round's attention in all layers, as rows and flat: its products and softmax alone."""
    shape = session.manifest.decoder
    heads, width = shape.kv_heads, shape.head_dim
    group = max(1, shape.width // (heads * width))  # query heads a key's: so where they fill the width, as is common
    random = np.random.default_rng(0)
    keys = random.standard_normal((count, heads, past, width)).astype(np.float32)
    queries = random.standard_normal((count, heads, group, width)).astype(np.float32)
    own = np.repeat(np.arange(count), group)[:, None] == np.repeat(np.arange(count), past)[None]
    rows = attention_time(queries, keys, np.zeros((count, 1, 1, past), np.float32))
    flat = attention_time(one_list(queries), one_list(keys), np.where(own, 0, -np.inf).astype(np.float32)[None, None])
    return rows * shape.layers, flat * shape.layers


def one_list(entries: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return [R, H, N, d] as [1, H, R N, d]."""
    return np.ascontiguousarray(entries.transpose(1, 0, 2, 3).reshape(1, entries.shape[1], -1, entries.shape[3]))


def attention_time(queries: NDArray[np.float32], keys: NDArray[np.float32], mask: NDArray[np.float32]) -> float:
    """Return seconds of softmax(queries keys^T + mask) keys by onnxruntime."""
    inputs = {"queries": queries, "keys": keys, "mask": mask}
    names = [ir.val(name, ir.DataType.FLOAT, array.shape) for name, array in inputs.items()]
    query, key, shown = names
    turned = ir.node("Transpose", [key], {"perm": [0, 1, 3, 2]})
    logits = ir.node("MatMul", [query, turned.outputs[0]])
    masked = ir.node("Add", [logits.outputs[0], shown])
    weights = ir.node("Softmax", [masked.outputs[0]], {"axis": -1})
    summed = ir.node("MatMul", [weights.outputs[0], key])
    summed.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    nodes = [turned, logits, masked, weights, summed]
    graph = ir.Graph(names, summed.outputs, nodes=nodes, opset_imports={"": 21}, name="attention")
    model = ir.to_proto(ir.Model(graph, ir_version=10)).SerializeToString()
    engine = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    times = []
    for _ in range(FORM_RUNS):
        start = perf_counter()
        engine.run(None, inputs)
        times.append(perf_counter() - start)
    return median(times)


def write(timed: list[Timed], arguments: argparse.Namespace) -> None:
    """Print the table, and write it with the plot and all numbers."""
    table = table_of(timed, arguments)
    record = {"arguments": vars(arguments) | {"bundle": arguments.bundle.name}, "timed": [asdict(one) for one in timed]}
    text = json.dumps(record, default=str, indent=1) + "\n"
    sys.stdout.write(text if arguments.json else text_table(table) + "\n")
    arguments.output.mkdir(parents=True, exist_ok=True)
    write_whole(arguments.output / "bench-rows.json", lambda path: path.write_text(text))
    write_whole(
        arguments.output / "bench-rows.md", lambda path: path.write_text(f"{table.title}\n\n{markdown_table(table)}")
    )
    write_whole(arguments.output / "bench-rows.png", lambda path: plot(timed, path))


def table_of(timed: list[Timed], arguments: argparse.Namespace) -> Rows:
    """Return a row a length of prompt."""
    rounds = arguments.tokens - 1
    rows = tuple(
        (
            f"{one.prompt:,}",
            f"{one.tokens / one.alone:.0f}",
            f"{one.tokens / one.together:.0f}",
            f"{one.alone / one.together:.2f}",
            f"{one.same / one.tokens:.1%}",
            f"{1e3 * one.together / rounds:.0f}",
            f"{1e3 * one.rows:.1f}",
            f"{1e3 * one.flat:.1f}",
        )
        for one in timed
    )
    title = f"{arguments.bundle.name}, {arguments.conversations} answers of {arguments.tokens} tokens each"
    heads = ("prompt", "alone tok/s", "together", "ratio", "same", "round ms", "rows ms", "flat ms")
    return Rows(title, heads, rows)


def plot(timed: list[Timed], path: Path) -> None:
    """Draw tokens a second over the prompt's length."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
    prompts = [one.prompt for one in timed]
    axes.plot(prompts, [one.tokens / one.together for one in timed], "o-", label="together")
    axes.plot(prompts, [one.tokens / one.alone for one in timed], "o-", label="one after another")
    axes.set_ylim(bottom=0)
    axes.set(xlabel="tokens of each prompt", ylabel="tokens a second, all answers")
    axes.legend()
    figure.savefig(path, dpi=120, format="png")
    plt.close(figure)


if __name__ == "__main__":
    sys.exit(main())
