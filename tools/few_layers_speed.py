"""Times a large model with few decoder layers and random weights: a bundle, dense and pruned, torch and transformers.

    python tools/few_layers_speed.py CLIP.mp4 --model qwen3-vl-4b --layers 4 --video-size 256x160 -o build/few

The whole tower is there, so that what pruning saves in it can be measured where the whole decoder in float32, three
times over, would not fit. Prints `stts-export bench`'s tables, and what the counted FLOPs say of pruned against dense.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from changed_recipe import changed_recipe
from rich.console import Console

from stts_export.bench.run import BenchRequest, run_bench
from stts_export.bench.table import terminal_report
from stts_export.checkpoint.seeded import random_checkpoint
from stts_export.estimate.latency import stages_of
from stts_export.estimate.scenario import Scenario
from stts_export.pipeline import BuildRequest, build
from stts_export.recipe.config import ModelConfig
from stts_export.recipe.find import find_recipe
from stts_export.recipe.target import read_target
from stts_export.verify.record import model_of
from stts_runtime.bundle.open import open_bundle


PRUNE, SEED, TARGET = 0.5, 0, "cpu"


def shortened_recipe(model: str, layers: int, folder: Path) -> Path:
    """Write the recipe of a model with so many decoder layers into `folder`, and return its file."""
    text = changed_recipe(find_recipe(model, "models"), "layers", layers)
    file = folder / f"{Path(model).stem}-{layers}-layers.toml"
    file.write_text(re.sub(r'(?m)^name = ".*"', f'name = "{file.stem}"', text))
    return file


def allowed(config: ModelConfig, frames: int, prune: float) -> float:
    """Return the FLOPs of a dense vision and prefill in times of the pruned ones."""

    def flops(fraction: float) -> float:
        scenario = Scenario(config, read_target(TARGET), "float32", frames, fraction, packing="ragged")
        return sum(stage.tflop for stage in stages_of(scenario) if stage.stage != "decode")

    return flops(0.0) / flops(prune)


def main() -> None:
    """Build what is not there yet, and time it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path)
    parser.add_argument("--model", default="qwen3-vl-4b")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--video-size", default="256x160")
    parser.add_argument("--frames", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("-o", "--output", type=Path, required=True, help="a folder")
    asked = parser.parse_args()
    asked.output.mkdir(parents=True, exist_ok=True)
    recipe = shortened_recipe(asked.model, asked.layers, asked.output)
    bundle = recipe.with_suffix(".stts")
    if not bundle.exists():
        build(
            BuildRequest(
                model=str(recipe),
                output=bundle,
                target=TARGET,
                random_weights=SEED,
                scorer="cosine",
                prune=PRUNE,
                video_size=asked.video_size,
                max_frames=asked.frames,
                verify=False,
            )
        )
    found = run_bench(
        BenchRequest(
            bundle,
            asked.video,
            checkpoint=lambda config: random_checkpoint(config, SEED),
            frames=(asked.frames,),
            side_by_side=(asked.frames,),
            repeats=asked.repeats,
            memory=False,
            startup=False,
        )
    )
    console = Console()
    console.print(*terminal_report(found), sep="\n")
    times = {(one.engine, one.prune): one.vision_and_prefill for one in found.found.measurements}
    measured, most = (
        times["bundle", 0.0] / times["bundle", PRUNE],
        allowed(model_of(open_bundle(bundle)), asked.frames, PRUNE),
    )
    console.print(f"dense by pruned: {measured:.2f}, by FLOPs {most:.2f}: {measured / most:.0%} of what they allow")


if __name__ == "__main__":
    main()
