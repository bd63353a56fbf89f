"""Say what calibration takes for a model too large to try whole: seconds of a block, and memory at its peak.

    python tools/calibration_cost.py molmo2-4b-lite-50 --blocks 3

Of the decoder that many blocks are calibrated, behind the whole vision side; the others take as long each. Weights are
random, made as they are read. The default clips and text are read with micro's tokenizer, whose ids are few enough for
any large vocabulary. Memory is the process's own, which leaves out what is mapped from files.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from stts_export.calibrate.calibrate import CLIPS, STAGE, calibrated_scales
from stts_export.calibrate.material import DEFAULT, read_material
from stts_export.checkpoint.locate import find_model, weights_folder
from stts_export.checkpoint.seeded import random_checkpoint
from stts_export.checkpoint.tokenizer import find_tokenizer, model_tokenizer
from stts_export.quantise.choice import CHOICES, decoder_roundings
from stts_export.train.forward import Pruning
from stts_runtime.bench.peak_memory import resident
from stts_runtime.bundle.backend import ONNXRUNTIME
from stts_runtime.sizes import GIB
from stts_runtime.text_table import Rows, text_table


WORDS = "micro"


def main() -> None:
    """Print seconds, elapsed and of the processor, and memory: before the first block, and of each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a recipe's name or file")
    parser.add_argument("--blocks", type=int, default=3, help="of the decoder (default: %(default)s)")
    arguments = parser.parse_args()
    config = find_model(arguments.model, weights=False)[0].config
    layers = config.decoder.layers
    config = replace(config, decoder=replace(config.decoder, layers=min(arguments.blocks, layers)))
    words = find_model(WORDS)[0]
    tokenizer = model_tokenizer(find_tokenizer(weights_folder(words, None)), words.config)
    checkpoint = random_checkpoint(config, 0)
    shapes = {name: tensor.shape for name, tensor in checkpoint.tensors.items()}
    roundings = decoder_roundings(shapes, CHOICES[ONNXRUNTIME.name]["int4"])
    scored = config.scorer.kind != "none"
    pruning = Pruning(0.5, "ragged", config.scorer.soft_bias) if scored else None
    peak, rows = Peak(), []
    peak.start()
    clocks = [time.perf_counter(), time.process_time()]

    def mark(name: str) -> None:
        now = [time.perf_counter(), time.process_time()]
        spent = (f"{after - before:.1f}" for before, after in zip(clocks, now, strict=True))
        rows.append((name, *spent, f"{peak.taken():.2f}"))
        sys.stderr.write(f"{' '.join(rows[-1])}\n")
        clocks[:] = now

    def on_progress(stage: str, share: float) -> None:
        if stage == CLIPS and share == 1:
            mark("clips through the vision side")
        elif stage == STAGE:
            mark(f"block {round(share * config.decoder.layers)} of {layers}")

    material = read_material(DEFAULT, tokenizer, config)
    mark("material")
    with TemporaryDirectory() as cache:
        calibrated_scales(config, checkpoint, roundings, material, tokenizer, pruning, on_progress, cache=Path(cache))
    tokens = ", ".join(f"{len(text)}" for text in material.texts)
    sys.stdout.write(
        text_table(
            Rows(
                f"{config.name}: {len(material.examples)} clips, texts of {tokens} tokens",
                ("what", "s elapsed", "s of the processor", "own memory at most, GiB"),
                tuple(rows),
            )
        )
    )


class Peak(threading.Thread):
    """Looks at the process's own memory ten times a second, for as long as the process lives."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.own = 0  # bytes

    def run(self) -> None:
        """Look, again and again."""
        while True:
            self.look()
            time.sleep(0.1)

    def look(self) -> None:
        """Note what is taken now, if it is more than before."""
        self.own = max(self.own, resident().own)

    def taken(self) -> float:
        """Return the most since it was last asked, GiB."""
        self.look()
        most, self.own = self.own, 0
        return most / GIB


if __name__ == "__main__":
    main()
