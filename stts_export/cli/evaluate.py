"""`stts-export eval`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stts_export.cli.progress import progress_bars
from stts_runtime.bundle.manifest import PACKINGS
from stts_runtime.cli import add_command, log_note, path_or_name
from stts_runtime.errors import UsageError
from stts_runtime.live.window import MODES


if TYPE_CHECKING:
    from stts_export.evaluate.records import Evaluation

EXAMPLES = """examples:
  stts-export eval RUN/answers --model micro --data doom                   # a training stage, over the micro model
  stts-export eval RUN/answers --model micro --data doom --split test held_out --dense-twin RUN/dense -o results
  stts-export eval ~/Molmo2-4B-Lite --model molmo2-4b --data doom --prune 0 0.5 --scorers learned cosine
  stts-export eval RUN/answers --model micro --data doom --frames 8 16     # trained with 8, tried with 16 too
  stts-export eval micro.stts --data doom --questions 200 --prune 0.5 -o on-bundle
  stts-export eval nano.stts --data nano --prune 0.5 --live settled exact  # as stts-runtime watch would see the clips
  stts-export eval results/eval.json --compare on-bundle/eval.json         # exit code 1 beyond 0.2 points

Scorers: learned; learned-no-bias (scores only select); cosine, training-free (1 - cosine to the frame before);
cosine-bias (whose scores bias attention too); random; random-bias.
"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    summary = "Measure how many questions about clips a checkpoint or a bundle answers right, dense and pruned."
    parser = add_command(commands, "eval", run, summary, EXAMPLES)
    asking: list[argparse.Action] = []

    def option(*names: str, **more: Any) -> None:
        asking.append(parser.add_argument(*names, **more))

    parser.set_defaults(asking=asking)
    option(
        "what",
        type=path_or_name,
        help="a bundle or checkpoint (folder, or name on a hub), training stage's folder, trained file, recipe, or "
        "earlier eval.json",
    )
    option("--data", type=Path, help="a dataset's folder")
    option(
        "--model", type=path_or_name, metavar="RECIPE", help="what a checkpoint is, or a trained file was trained on"
    )
    option(
        "--checkpoint",
        type=path_or_name,
        help="weights under a trained file, a folder or a name on a hub (micro brings its own)",
    )
    option("--trained", type=Path, metavar="FILE", help="lay what training changed over the checkpoint")
    option("--dense-twin", type=Path, metavar="PATH", help="the same training without pruning, to compare with")
    option("--also", action="append", default=[], metavar="NAME=PATH", help="one more training of the same model")
    option("--split", nargs="+", default=["test"], help="splits of the dataset (default: test)")
    option("--prune", type=float, nargs="+", metavar="P", help="shares of groups to drop (default: 0 0.3 0.5 0.7 0.8)")
    option("--scorers", nargs="+", metavar="S", help="see below (default: learned learned-no-bias cosine random)")
    option("--no-soft-bias", action="store_true", help="leave out rows whose scores bias attention")
    option(
        "--frames",
        type=int,
        nargs="+",
        default=[],
        metavar="T",
        help="frames a clip, those of training first; more show what more frames bring (default: the model's sampling)",
    )
    option("--one-frame", action="store_true", help="ask also with the middle frame in every place")
    option(
        "--live",
        nargs="+",
        default=[],
        choices=MODES,
        help="of a bundle: feed clips frame by frame too, as one stream: settled, exact, or both (stts-runtime watch)",
    )
    option("--questions", type=int, metavar="N", help="ask N, spread over the kinds (default: all)")
    option("--compare", type=Path, metavar="JSON", help="an earlier evaluation that must agree")
    option("-o", "--output", type=Path, help="folder for eval.json, eval.md and eval.png")
    option("--device", default="auto", help="cuda or cpu (default: cuda where there is one)")
    option("--precision", default="auto", help="float32 or bfloat16 (default: bfloat16 on a GPU)")
    option("--batch", type=int, metavar="N", help="clips at once (default: 32 on a GPU, 1 elsewhere)")
    option("--packing", choices=PACKINGS, help="of kept patches (default: the model's)")


def run(arguments: argparse.Namespace) -> int:
    """Evaluate, print the tables, write them where asked, and compare."""
    from stts_export.cli.console import print_json, print_tables, table_console
    from stts_export.evaluate.compare import agreement_rows, compare, differing_conditions
    from stts_export.evaluate.table import tables
    from stts_export.evaluate.write import evaluation_json, read_evaluation, write_evaluation
    from stts_export.installed import check_extra
    from stts_export.output_folder import check_output_folder
    from stts_export.report.tables import markdown_table

    if arguments.output is not None:
        check_extra("matplotlib", "plots", "pictures")
        check_output_folder(arguments.output)
    other = None if arguments.compare is None else read_evaluation(arguments.compare)
    evaluation = _earlier(arguments) if Path(arguments.what).suffix == ".json" else _evaluated(arguments)
    shown = tables(evaluation)
    notes = evaluation.notes
    agreements = None if other is None else compare(evaluation, other)
    if agreements is not None and other is not None:
        shown = (*shown, agreement_rows(evaluation, other, agreements))
        notes += tuple(note for note in (*other.notes, *differing_conditions(evaluation, other)) if note not in notes)
    if arguments.json:
        found = {"agreement": agreements} if agreements is not None else {}
        print_json({**evaluation_json(evaluation), **found})
    else:
        print_tables(shown, notes)
    if arguments.output is not None:
        page = "\n".join(f"{table.title}\n\n{markdown_table(table)}" for table in shown)
        page += "".join(f"\n{note}\n" for note in notes)
        for file in write_evaluation(evaluation, page, arguments.output):
            table_console(stderr=True).print(f"wrote {file}", highlight=False)
    return 0 if agreements is None or all(one.ok for one in agreements) else 1


def _earlier(arguments: argparse.Namespace) -> Evaluation:
    """Return an evaluation that was written before; refuse what would have to be asked for it."""
    from stts_export.evaluate.write import read_evaluation

    shows = ("what", "compare", "output")
    asks = [action for action in arguments.asking if action.dest not in shows]
    given = [action for action in asks if getattr(arguments, action.dest) != action.default]
    if given:
        raise UsageError(
            f"{arguments.what} was evaluated before: leave out {given[0].option_strings[-1]}, or name a bundle or a "
            "checkpoint to evaluate"
        )
    return read_evaluation(Path(arguments.what))


def _evaluated(arguments: argparse.Namespace) -> Evaluation:
    from stts_export.evaluate.run import EvaluationRequest, evaluate
    from stts_export.evaluate.torch_run import TorchOptions

    if arguments.data is None:
        raise UsageError("which dataset must be said: --data FOLDER (made by stts-export data)")
    request = EvaluationRequest(
        what=arguments.what,
        data=arguments.data,
        model=arguments.model,
        checkpoint=arguments.checkpoint,
        trained=arguments.trained,
        twin=arguments.dense_twin,
        also=tuple(_named(text) for text in arguments.also),
        splits=tuple(arguments.split),
        fractions=None if arguments.prune is None else tuple(arguments.prune),
        scorers=None if arguments.scorers is None else tuple(arguments.scorers),
        soft_bias=not arguments.no_soft_bias,
        one_frame=arguments.one_frame,
        frames=tuple(arguments.frames),
        live=tuple(arguments.live),
        questions=arguments.questions,
        packing=arguments.packing,
        options=TorchOptions(arguments.device, arguments.precision, arguments.batch),
    )
    with progress_bars() as on_progress:
        return evaluate(request, on_progress, log_note)


def _named(text: str) -> tuple[str, Path]:
    name, mark, path = text.partition("=")
    if not (name and mark and path):
        raise UsageError(f"--also {text}: wanted NAME=PATH, such as --also no-auxiliary-loss=RUN/no-auxiliary-loss")
    return name, Path(path)
