"""Measure what four bits cost on text, rounded as weights are and calibrated: the table of docs/quantisation.md.

    python tools/rounding_table.py --model micro

Of the weights alone: the model in torch, in floats, with what the numbers of the decoder's blocks stand for. Head and
embedding stay as they are.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from stts_export.calibrate.calibrate import calibrated_scales
from stts_export.calibrate.material import DEFAULT, read_material
from stts_export.checkpoint.locate import find_model, weights_folder
from stts_export.checkpoint.open import open_checkpoint
from stts_export.checkpoint.records import Checkpoint
from stts_export.checkpoint.tokenizer import find_tokenizer, model_tokenizer
from stts_export.cli.progress import progress_bars
from stts_export.quantise.checkpoint import as_rounded
from stts_export.quantise.choice import INT4, Q4_1
from stts_export.quantise.rounding import Rounding
from stts_export.quantise.scaling import as_scaled
from stts_export.report.tables import markdown_table
from stts_export.train.forward import Pruning
from stts_export.verify.rounded_text import logits_of_variants
from stts_export.verify.text import ASKED, READ, python_text, text_cost
from stts_runtime.text_table import Rows


TOKENS = 1536
"""Of the text, of which a build's verification asks the first 448 behind 64: more, and so less by chance."""
FORMATS = {
    "symmetric, blocks of 32": Rounding(4, 32),
    "symmetric, blocks of 64": Rounding(4, 64),
    "with zero points, blocks of 32": INT4,
    "with zero points, blocks of 64": replace(INT4, block=64),
    "with any offsets, blocks of 32": Q4_1,
}


def main() -> None:
    """Print a row a format: the text's perplexity as a ratio, and the share of places with the same likeliest token."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="micro", help="a recipe that brings its weights (default: %(default)s)")
    parser.add_argument("--calibration", default=DEFAULT, help="a dataset's folder (default: %(default)s)")
    arguments = parser.parse_args()
    recipe = find_model(arguments.model)[0]
    folder, config = weights_folder(recipe, None), recipe.config
    checkpoint = open_checkpoint(folder, config)
    tokenizer = model_tokenizer(find_tokenizer(folder), config)
    material = read_material(arguments.calibration, tokenizer, config)
    pruning = Pruning(recipe.prune_fraction, soft_bias=config.scorer.soft_bias)
    ids = np.array(tokenizer.encode(python_text(), specials=False)[: TOKENS + 1], np.int64)
    following = ids[READ:]

    def logits_of(weights: Checkpoint) -> NDArray[np.float32]:
        return next(logits_of_variants(config, weights, weights, [frozenset()], ids[:-1], READ - 1))

    expected = logits_of(checkpoint)
    rows = []
    for name, rounding in FORMATS.items():
        matrices = [key for key, one in checkpoint.tensors.items() if ".blocks." in key and len(one.shape) == 2]
        roundings = dict.fromkeys((key for key in matrices if key.startswith("decoder.")), rounding)
        with progress_bars() as on_progress:
            scales = calibrated_scales(config, checkpoint, roundings, material, tokenizer, pruning, on_progress)
        cells = [name]
        for weights in (checkpoint, as_scaled(checkpoint, config.decoder, scales)):
            got = logits_of(as_rounded(weights, roundings))
            for places in (len(following), ASKED):
                cost = text_cost(expected[:places], got[:places], following[:places])
                cells += [f"{cost.perplexity:.3f}, {cost.top1:.1%}"]
        rows.append(tuple(cells))
    headers = ("4 bits", "rounded", f"the first {ASKED}", "calibrated", f"the first {ASKED}")
    sys.stdout.write(markdown_table(Rows("", headers, tuple(rows))))


if __name__ == "__main__":
    main()
