"""Say what tracing and lowering the graphs of a build take, in processor time.

    python tools/trace_times.py nano micro molmo2-4b-lite-50
    python tools/trace_times.py molmo2-4b --prune 0

Weights are not needed: graphs are traced without. Each model gets a process of its own, as each build is, and its first
part pays for what torch does once a process; what imports take is left out. With `--whole` every block is traced, for
comparison; to compare with another commit, run this file with PYTHONPATH set to its checkout. Figures are the least of
`--rounds`, between which the models take turns: other work on the machine can only add to them.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from functools import partial
from pathlib import Path

from stts_export.graph import capture, form_for, lower
from stts_export.graph.capture import weightless_model
from stts_export.parts import parts_of
from stts_export.pipeline.request import BuildRequest, resolve
from stts_runtime.progress import no_progress
from stts_runtime.text_table import Rows, text_table


Times = dict[str, tuple[float, float]]
"""Part -> seconds of tracing and of lowering."""


def main() -> None:
    """Print a table of all parts of each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    option = parser.add_argument
    option("models", nargs="+", help="recipes, by name or path")
    option("--target", default="cpu", help="what the graphs are for (default: %(default)s)")
    option("--prune", type=float, help="as in a build; 0 for models that have no scorer")
    option("--batch", type=int, default=1, help="conversations decoded together (default: %(default)s)")
    option("--whole", action="store_true", help="trace every block, and repeat none")
    option("--rounds", type=int, default=1, help="how often each is measured (default: %(default)s)")
    arguments = parser.parse_args()
    requests = [
        BuildRequest(
            model=model,
            output=Path("unwritten.stts"),
            target=arguments.target,
            random_weights=0,
            prune=arguments.prune,
            batch=arguments.batch,
            engines=False,
            ignore_fit=True,
        )
        for model in arguments.models
    ]
    spawn = multiprocessing.get_context("spawn")
    best: dict[str, Times] = {}
    for _ in range(arguments.rounds):
        for request in requests:
            with spawn.Pool(1) as pool:
                times = pool.apply(times_of, (request, arguments.whole))
            if request.model not in best or sum(map(sum, times.values())) < sum(map(sum, best[request.model].values())):
                best[request.model] = times
    for model, times in best.items():
        sys.stdout.write(table(model, times))


def times_of(request: BuildRequest, is_whole: bool) -> Times:
    """Return what each part of a build takes, of this process's processor time."""
    resolved = resolve(request, no_progress)
    model, engine, packing = weightless_model(resolved.config), resolved.engine, resolved.pruning.packing
    cached, plugins = engine.kv_cache, engine.has_plugins
    parts = parts_of(model, resolved.config, resolved.limits, packing, plugins=plugins, kv_cache=cached)
    traces, times = partial(capture, whole=True) if is_whole else capture, {}
    for part in parts:
        start = time.process_time()
        graph = traces(part)
        traced = time.process_time()
        lower(graph, part.spec, form_for(resolved.engine), resolved.roundings)
        times[part.spec.name] = traced - start, time.process_time() - traced
    return times


def table(model: str, times: Times) -> str:
    """Return a row a part, and their sum."""
    total = tuple(map(sum, zip(*times.values(), strict=True)))
    rows = [(name, *seconds) for name, seconds in (*times.items(), ("all", total))]
    cells = [(name, *(f"{one:.1f}" for one in (traced, lowered, traced + lowered))) for name, traced, lowered in rows]
    return text_table(Rows(f"{model}, CPU seconds", ("part", "tracing", "lowering", "both"), tuple(cells)), ("part",))


if __name__ == "__main__":
    main()
