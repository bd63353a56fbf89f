"""`stts-export build`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from stts_export.cli.progress import progress_bars
from stts_export.recipe.find import recipe_names
from stts_runtime.cli import add_command, log_note, path_or_name


SUMMARY = "Turn a checkpoint into a verified bundle."
OUTPUT_HELP = "the bundle to write, NAME.stts"
EXAMPLES = """examples:
  stts-export build --model micro -o micro.stts
  stts-export build --model molmo2-4b-lite-50 --checkpoint ~/Molmo2-4B-Lite-50 --target jetson-orin -o lite.stts
  stts-export build --model ~/Molmo2-4B --prune 0 -o dense.stts
  stts-export build --model allenai/Molmo2-4B --scorer cosine -o pruned.stts
  stts-export build --model micro --weights int4 -o small.stts
  stts-export build --model micro --target rtx --weights int8 -o small-rtx.stts
  stts-export build --model molmo2-4b --random-weights --scorer cosine --no-verify -o speed.stts
  stts-export build --model ~/Qwen3-VL-2B-Instruct --scorer cosine --video-size 512x288 -o qwen.stts
"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = add_command(commands, "build", run, SUMMARY, EXAMPLES)
    parser.add_argument("-o", "--output", type=Path, required=True, help=OUTPUT_HELP)
    add_options(parser, "--model")


def add_options(parser: argparse.ArgumentParser, *model: str) -> None:
    """Add all that a build takes but `output`, which programs ask for in ways of their own.

    Args:
        parser: of the command.
        model: the names of the option that says what to build.
    """
    option = parser.add_argument
    option(
        *model,
        type=path_or_name,
        required=True,
        help=f"a model recipe's name ({', '.join(recipe_names('models'))}) or file, a checkpoint "
        "directory, or its name on a hub, ORG/NAME[@REVISION]",
    )
    option(
        "--checkpoint",
        type=path_or_name,
        help="directory of safetensors, or its name on a hub, where --model is a recipe",
    )
    option(
        "--random-weights",
        type=int,
        nargs="?",
        const=0,
        metavar="SEED",
        help="generate weights, to measure speed alone",
    )
    option(
        "--target",
        type=path_or_name,
        default="cpu",
        help="what to build for, a name that `stts-export targets` lists or a .toml file (default: %(default)s)",
    )
    option("--precision", help="float32, float16 or bfloat16 (default: the target's)")
    option("--backend", help="onnxruntime, tensorrt or tensorrt_rtx (default: the target's)")
    option("--prune", type=float, help="share of groups to drop, in [0, 1); 0 builds dense (default: the model's)")
    option("--scorer", help="learned, cosine (training-free) or random (default: the model's)")
    option("--packing", help="ffd, as the authors do it, or ragged, without padding (default: the model's)")
    option(
        "--ops",
        help="portable, standard operators alone, or plugin, with TensorRT plugins of ours (default: plugin for "
        "TensorRT from 10 on and TensorRT-RTX, if their library is there and packing is not ffd; else portable)",
    )
    option(
        "--weights",
        help="what the decoder's are stored in: float, int8, int4, q4_1 (GGUF's, which int4 becomes "
        "where weights have it already), fp8 or nvfp4 (default: float)",
    )
    option(
        "--tower-weights",
        help="of the tower's blocks and the connector: float or int8 (default: int8 on a CPU where "
        "--weights are rounded, else float)",
    )
    option(
        "--kv-cache",
        help="keep the decoder's keys and values in float, or in int8, a fourth of that on a CPU and half on a GPU "
        "(default: float)",
    )
    option(
        "--keep-float",
        nargs="+",
        default=(),
        metavar="PATTERN",
        help="weights that stay floats all the same, as decoder.blocks.0.*",
    )
    option(
        "--calibration",
        type=path_or_name,
        metavar="DIR|default|none",
        help="what the model reads to find how its weights are best rounded: a dataset, the set that comes with it, or "
        "nothing (default: default for int4, none for int8)",
    )
    option(
        "--video-size",
        metavar="WIDTHxHEIGHT",
        help="pixels that every picture is resized to, of models that take several sizes (default: the recipe's)",
    )
    option("--max-frames", type=int, help="most frames of a clip (default: the target's)")
    option("--max-tokens", type=int, help="most tokens of a conversation (default: follows from frames and model)")
    option("--max-crops", type=int, help="most crops of an image; 0 leaves images out (default: the model's)")
    option("--chunk-frames", type=int, default=8, help="frames the vision engines take at once (default: %(default)s)")
    option(
        "--batch",
        type=int,
        default=1,
        metavar="N",
        help="let `stts-runtime serve` decode up to N answers together (default: in turn); for TensorRT "
        "that is a second engine of the decoder",
    )
    option(
        "--no-engines",
        action="store_true",
        help="leave engines to `stts-runtime build`, even where they could be built",
    )
    option("--ignore-fit", action="store_true", help="build although the estimate says it does not fit the target")
    option("--no-verify", action="store_true", help="skip the comparison with the torch model")
    option("--overwrite", action="store_true", help="replace a bundle that is there already")


def run(arguments: argparse.Namespace) -> int:
    """Build the bundle and say what it is."""
    from stts_export.bundle.summary import bundle_summary, summary_lines
    from stts_export.pipeline import BuildRequest, build

    request = BuildRequest(
        model=arguments.model,
        output=arguments.output,
        target=arguments.target,
        backend=arguments.backend,
        precision=arguments.precision,
        checkpoint=arguments.checkpoint,
        random_weights=arguments.random_weights,
        prune=arguments.prune,
        scorer=arguments.scorer,
        packing=arguments.packing,
        ops=arguments.ops,
        weights=arguments.weights,
        tower_weights=arguments.tower_weights,
        kv_cache=arguments.kv_cache,
        keep_float=tuple(arguments.keep_float),
        calibration=arguments.calibration,
        video_size=arguments.video_size,
        max_frames=arguments.max_frames,
        max_tokens=arguments.max_tokens,
        max_crops=arguments.max_crops,
        chunk_frames=arguments.chunk_frames,
        batch=arguments.batch,
        engines=not arguments.no_engines,
        ignore_fit=arguments.ignore_fit,
        verify=not arguments.no_verify,
        overwrite=arguments.overwrite,
    )
    with progress_bars() as on_progress:
        path = build(request, on_progress, log_note)
    summary = bundle_summary(path)
    print(json.dumps(summary, indent=2) if arguments.json else "\n".join(summary_lines(summary)))
    return 0
