"""`stts-export estimate`."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import TYPE_CHECKING

from stts_export.cli.progress import progress_bars
from stts_runtime.bundle.manifest import FLOAT
from stts_runtime.cli import add_command, log_note, path_or_name, png_path
from stts_runtime.errors import UsageError


if TYPE_CHECKING:
    from stts_export.estimate.scenario import Scenario
    from stts_runtime.text_table import Rows


EXAMPLES = """examples:
  stts-export estimate --model molmo2-4b --target jetson-orin --frames 64 --prune 0.5
  stts-export estimate --model molmo2-4b --target jetson-orin --frames 64 --prune 0.5 --plot latency.png
  stts-export estimate --model ~/Molmo2-4B --target rtx --memory 24 --bandwidth 1008 --tflops 165
  stts-export estimate --published
"""

SUMS = ("total", "build_low", "build_high", "engine_disk")  # follow from what a record of memory holds


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    summary = "Predict memory and time of a model on a target before anything is built."
    parser = add_command(commands, "estimate", run, summary, EXAMPLES)
    parser.add_argument("--published", action="store_true", help="hold the estimator against published measurements")
    parser.add_argument(
        "--model",
        type=path_or_name,
        help="a model recipe's name or file, a checkpoint directory, or its name on a hub, ORG/NAME[@REVISION]",
    )
    parser.add_argument("--target", type=path_or_name, help="what it would run on; see `stts-export targets`")
    parser.add_argument("--frames", type=int, help="frames of the clip (default: the model's most, or the target's)")
    parser.add_argument("--prune", type=float, help="share of groups to drop, in [0, 1) (default: the model's)")
    parser.add_argument("--precision", help="float32, float16 or bfloat16 (default: the target's first)")
    weights = "of the decoder: float, int8, int4, q4_1, fp8 or nvfp4 (default: %(default)s)"
    parser.add_argument("--weights", default=FLOAT, help=weights)
    parser.add_argument("--tower-weights", help="float or int8 (default: int8 on a CPU where --weights are rounded)")
    parser.add_argument("--kv-cache", default=FLOAT, help="of the decoder: float or int8 (default: %(default)s)")
    parser.add_argument("--backend", help="onnxruntime, tensorrt or tensorrt_rtx (default: the target's first)")
    parser.add_argument("--packing", help="ffd or ragged (default: the model's)")
    parser.add_argument("--chunk-frames", type=int, default=8, help="frames a vision run (default: %(default)s)")
    parser.add_argument("--max-tokens", type=int, help="room in the cache (default: follows from the clip)")
    parser.add_argument("--answer-tokens", type=int, default=64, help="tokens of the answer (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=1, metavar="N", help="answers that a server decodes together")
    parser.add_argument("--memory", type=float, metavar="GIB", help="of the card, where the target does not say")
    parser.add_argument("--bandwidth", type=float, metavar="GB/S", help="of its memory")
    parser.add_argument("--tflops", type=float, metavar="TFLOP/S", help="its dense peak in that precision")
    parser.add_argument("--markdown", action="store_true", help="print tables as Markdown")
    parser.add_argument("--plot", type=png_path, metavar="PNG", help="draw latency over T: dense, 30 %%, 50 %%, 70 %%")


def run(arguments: argparse.Namespace) -> int:
    """Print the estimate, or the comparison with published figures; refuse what cannot fit."""
    from stts_export.cli.console import print_json, table_console
    from stts_export.estimate.estimate import check_fit, estimate
    from stts_export.estimate.tables import estimate_tables
    from stts_export.installed import check_extra
    from stts_runtime.bundle.plain import to_plain

    if arguments.published:
        return _published(arguments)
    if arguments.plot is not None:
        check_extra("matplotlib", "plots", "pictures")
    scenario = scenario_of(arguments)
    made = estimate(scenario)
    console = table_console(stderr=arguments.json)
    if arguments.json:
        memory = {**to_plain(made.memory), **{name: getattr(made.memory, name) for name in SUMS}}
        print_json({**to_plain(made), "memory": memory})
    else:
        _print_tables(estimate_tables(made), arguments.markdown)
        for note in (*made.fit.warnings, *made.notes, f"efficiencies: {made.efficiencies}"):
            console.print(f"note: {note}", highlight=False)
    if arguments.plot is not None:
        from stts_export.estimate.plot import plot_latency

        plot_latency(scenario, arguments.plot)
        console.print(f"wrote {arguments.plot}", highlight=False)
    check_fit(made)
    return 0


def scenario_of(arguments: argparse.Namespace) -> Scenario:
    """Return what the options mean."""
    from stts_export.checkpoint.locate import find_model
    from stts_export.estimate.card import with_card
    from stts_export.estimate.scenario import Scenario, check_choices, with_scorer
    from stts_export.quantise.choice import tower_weights_of
    from stts_export.recipe.target import read_target

    for option in ("model", "target"):
        if getattr(arguments, option) is None:
            raise UsageError(f"--{option} is missing; or ask for --published")
    target = read_target(arguments.target)
    with progress_bars() as on_progress:
        recipe, _ = find_model(arguments.model, on_progress, log_note, weights=False)
    precision = arguments.precision or target.precisions[0]
    backend = arguments.backend or target.backends[0]
    check_choices(target, precision, backend)
    target = with_card(
        target,
        precision,
        memory_gib=arguments.memory,
        bandwidth_gb_per_s=arguments.bandwidth,
        tflops=arguments.tflops,
    )
    prune = recipe.prune_fraction if arguments.prune is None else arguments.prune
    frames = min(recipe.config.frame_sampling.max_frames, target.max_frames)
    return Scenario(
        config=with_scorer(recipe.config, prune),
        target=target,
        precision=precision,
        frames=frames if arguments.frames is None else arguments.frames,
        prune_fraction=prune,
        packing=arguments.packing or recipe.packing,
        chunk_frames=arguments.chunk_frames,
        answer_tokens=arguments.answer_tokens,
        backend=backend,
        max_tokens=arguments.max_tokens,
        weights=arguments.weights,
        tower_weights=tower_weights_of(arguments.tower_weights, arguments.weights, backend),
        batch=arguments.batch,
        kv_cache=arguments.kv_cache,
    )


def _print_tables(tables: Iterable[Rows], markdown: bool) -> None:
    from stts_export.cli.console import print_tables
    from stts_export.report.tables import markdown_table

    if not markdown:
        print_tables(tables)
        return
    for table in tables:
        print(f"{table.title}\n\n{markdown_table(table)}")


def _published(arguments: argparse.Namespace) -> int:
    from stts_export.cli.console import print_json, table_console
    from stts_export.estimate.comparison import compare
    from stts_export.estimate.tables import error_table, median_error, published_table
    from stts_runtime.bundle.plain import to_plain

    found = compare()
    if arguments.json:
        ratios = ("fitted_ratio", "left_out_ratio", "elsewhere_ratio")
        rows = [{**to_plain(one), **{name: getattr(one, name) for name in ratios}} for one in found]
        errors = {name: median_error([row[name] for row in rows if row["row"]["stage"] != "memory"]) for name in ratios}
        print_json({"rows": rows, "median_absolute_error_of_times": errors})
        return 0
    _print_tables((published_table(found), error_table(found)), arguments.markdown)
    for one in found:
        if one.row.outlier:
            table_console().print(
                f"outlier: {one.row.device} {one.row.model} {one.row.weights} {one.row.stage}: {one.row.outlier}; "
                "not in the fit, counted in the errors",
                highlight=False,
            )
    return 0
