"""Say what it costs and saves to score after another block of the tower: the sweep behind a recipe's `score_after`.

    python tools/score_after_table.py qwen3-vl-2b qwen3-vl-4b --frames 32
    python tools/score_after_table.py nano-qwen3-vl --weights RUN/pruned/model --data DATA --frames 16

A row is a block that can be scored behind: a tap may not lie before the prune. *FLOPs* are counted of vision and
prefill, dense by pruned: most of what pruning can save. With weights and a dataset, `cosine` behind each of these
blocks answers the dataset's questions, without any training for it, and what it keeps is told of groups in which a
thing came, moved or went, and of those that changed otherwise.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from changed_recipe import changed_recipe
from few_layers_speed import allowed

from stts_export.cli.progress import progress_bars
from stts_export.evaluate.records import Evaluation
from stts_export.evaluate.run import EvaluationRequest, evaluate
from stts_export.recipe.config import ModelConfig, ScorerConfig
from stts_export.recipe.find import find_recipe
from stts_export.recipe.read import read_model_recipe
from stts_runtime.text_table import Rows, text_table


SCORER = "cosine"


def main() -> None:
    """Print a table a model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    option = parser.add_argument
    option("models", nargs="+", help="recipes, by name or path")
    option("--prune", type=float, default=0.5, help="share of groups that are dropped (default: %(default)s)")
    option("--frames", type=int, default=32, help="of a clip (default: %(default)s)")
    option("--weights", help="a checkpoint's folder, of the one model that is named")
    option("--data", type=Path, help="a dataset's folder: its test split is asked")
    option("--questions", type=int, default=1000, help="at most (default: %(default)s)")
    arguments = parser.parse_args()
    if (arguments.weights is None) != (arguments.data is None) or (arguments.weights and len(arguments.models) > 1):
        parser.error("--weights and --data go together, with one model")
    for name in arguments.models:
        sys.stdout.write(text_table(table(name, arguments)) + "\n")


def table(name: str, arguments: argparse.Namespace) -> Rows:
    """Return a row for each block that can be scored behind."""
    file = find_recipe(name, "models")
    own = read_model_recipe(file).config
    headers = ["behind block", "blocks before the prune", "FLOPs, dense by pruned"]
    if arguments.weights:
        headers += [f"% right, {SCORER}", "things kept, %", "other changes kept, %"]
    rows = []
    for block in range(min(own.tower.taps) - 1):
        config = scored_behind(own, block)
        marked = f"{block}, the recipe's" if block == own.tower.score_after else str(block)
        blocks = f"{config.tower.first_packed_block} of {config.tower.blocks}"
        row = [marked, blocks, f"{allowed(config, arguments.frames, arguments.prune):.2f}"]
        if arguments.weights:
            row += answered(file, block, arguments)
        rows.append(tuple(row))
    return Rows(f"{name}, {arguments.frames} frames, {arguments.prune:.0%} pruned", tuple(headers), tuple(rows))


def scored_behind(config: ModelConfig, block: int) -> ModelConfig:
    """Return the model with the training-free scorer behind that block."""
    tower = replace(config.tower, score_after=block)
    return replace(config, tower=tower, scorer=ScorerConfig(SCORER, soft_bias=False))


def answered(file: Path, block: int, arguments: argparse.Namespace) -> list[str]:
    """Return how the scorer does behind that block."""
    with TemporaryDirectory() as folder, progress_bars() as on_progress:
        recipe = Path(folder) / file.name
        recipe.write_text(changed_recipe(file, "score_after", block))
        asked = EvaluationRequest(
            arguments.weights,
            arguments.data,
            model=str(recipe),
            fractions=(arguments.prune,),
            scorers=(SCORER,),
            frames=(arguments.frames,),
            questions=arguments.questions,
            packing="ragged",
        )
        found = evaluate(asked, on_progress)
    return [accuracy(found), *kept(found)]


def accuracy(found: Evaluation) -> str:
    """Return the share of right answers of the one setting that looked."""
    (flags,) = (one.flags for one in found.answers if one.setting.scorer == SCORER)
    return f"{flags.mean():.1%}"


def kept(found: Evaluation) -> list[str]:
    """Return which shares are kept of things, and of what changed otherwise; dashes where no patch is labelled."""
    if not found.kept:
        return ["-", "-"]
    (one,) = found.kept
    _, other, thing = (kept / max(there, 1) for kept, there in zip(one.kept, one.groups, strict=True))
    return [f"{thing:.1%}", f"{other:.1%}"]


if __name__ == "__main__":
    main()
