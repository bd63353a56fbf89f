"""Measure how far a rounded tower's keep sets are from float32's, beside those of bfloat16: see docs/quantisation.md.

    python tools/kept_table.py nano nano-int8.stts --data DATA
    python tools/kept_table.py micro micro-int8.stts

Without data, clips are generated as those of verification are. A cell is the mean and the least over clips of the
groups that both keep, over those that either keeps, behind the first frame.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from stts_export.checkpoint.locate import find_model, weights_folder
from stts_export.checkpoint.open import open_checkpoint
from stts_export.checkpoint.records import Checkpoint
from stts_export.data.clips import read_clip
from stts_export.data.read import open_questions
from stts_export.graph.capture import weightless_model
from stts_export.models.parameters import swapped_parameters
from stts_export.parts import Part, parts_of
from stts_export.recipe.config import ModelConfig
from stts_export.report.tables import markdown_table
from stts_export.verify.clip import SEED, synthetic_clip
from stts_export.verify.kept import FRACTIONS, FRAMES, PART, compared
from stts_runtime import load
from stts_runtime.clip.frames import patches_from_frames
from stts_runtime.text_table import Rows
from stts_runtime.timings import Timings
from stts_runtime.vision.run import score_frames


NAMES = ("bfloat16", "bundle")


def main() -> None:
    """Print a row for each share of groups that go."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a recipe that brings its weights")
    parser.add_argument("bundle", type=Path, help="what was built of it with a rounded tower")
    parser.add_argument("--data", type=Path, help="a dataset's folder, of which test clips are read")
    parser.add_argument("--clips", type=int, default=40, help="how many (default: %(default)s)")
    arguments = parser.parse_args()
    recipe = find_model(arguments.model)[0]
    config = recipe.config
    checkpoint = open_checkpoint(weights_folder(recipe, None), config)
    found: dict[tuple[str, float], list[float]] = {}
    with load(arguments.bundle) as session:
        manifest = session.manifest
        parts = parts_of(weightless_model(config), config, manifest.limits, manifest.pruning.packing)
        part = next(part for part in parts if part.spec.name == PART)
        for frames in clips(arguments.data, config, arguments.clips):
            own = torch_scores(part, checkpoint, config, frames, torch.float32)
            half = torch_scores(part, checkpoint, config, frames, torch.bfloat16)
            _, rounded = score_frames(session.engine(PART), frames, manifest, Timings())
            for name, scores in (("bfloat16", half), ("bundle", rounded)):
                for share in FRACTIONS:
                    overlap = compared(own, scores, share, config).overlap
                    assert overlap is not None
                    found.setdefault((name, share), []).append(overlap)
    rows = [
        (f"{share:.0%}", *(f"{np.mean(found[name, share]):.1%}, {min(found[name, share]):.1%}" for name in NAMES))
        for share in FRACTIONS
    ]
    sys.stdout.write(markdown_table(Rows("", ("dropped", *NAMES), tuple(rows))))


def clips(data: Path | None, config: ModelConfig, count: int) -> Iterator[NDArray[np.uint8]]:
    """Yield frames uint8 [T, size, size, 3]."""
    if data is None:
        for place in range(count):
            yield synthetic_clip(config.grid.image_size, FRAMES, SEED + 1 + place)
        return
    paths = dict.fromkeys(question.clip for question in open_questions(data, "test"))
    for path in list(paths)[:count]:
        yield read_clip(data / path, config.frame_sampling, None, config.grid).frames


def torch_scores(
    part: Part, checkpoint: Checkpoint, config: ModelConfig, frames: NDArray[np.uint8], dtype: torch.dtype
) -> NDArray[np.float32]:
    """Return the scores float32 [T, G] of a clip at once, by a model with weights of `dtype`."""
    gate = torch.ones(len(frames))
    gate[0] = 0
    state = [int(size) for size in part.spec.tensor("previous").shape]
    patches = torch.from_numpy(patches_from_frames(frames, config.grid)).to(dtype)
    previous = torch.zeros(state, dtype=dtype if config.scorer.kind == "learned" else torch.float32)
    given = (gate,) if config.scorer.soft_bias else ()
    with swapped_parameters(part.module, lambda name, _: checkpoint.tensors[name].read(dtype)), torch.inference_mode():
        _, scores, _ = part.module(patches, previous, *given)
    return scores.float().numpy()


if __name__ == "__main__":
    main()
