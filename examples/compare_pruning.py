"""See what pruning takes away, what it saves, and whether the answer stays.

    python examples/compare_pruning.py micro.stts clip.mp4

Looks at the same frames dense, with 30 % and with 50 % of the groups pruned. The bundle must have a scorer. For times
to rely on (medians, fresh processes, memory) there is `stts-runtime bench`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stts_runtime import load


FRACTIONS = (0.0, 0.3, 0.5)
QUESTION = "What happens in the video?"
VISION = ("vision_score", "plan", "vision_encode", "vision_dense")


def main(arguments: Sequence[str]) -> None:
    """Compare on the bundle `arguments[0]`, with the video `arguments[1]` or with noise."""
    bundle, *file = map(Path, arguments)
    with load(bundle) as model:
        noise = np.random.default_rng(0).integers(0, 256, (4, 126, 126, 3), dtype=np.uint8)
        clip = model.read(file[0], frames=8) if file else model.read(noise)  # decoded once
        print("pruned  groups kept  prompt tokens  vision ms  prefill ms  answer")
        for fraction in FRACTIONS:
            model.open(fraction)  # or the first question would pay for it
            conversation = model.look(clip, prune=fraction)
            answer = conversation.ask(QUESTION, max_tokens=24)
            times, tokens = conversation.timings.milliseconds, conversation.timings.tokens
            vision = sum(times.get(stage, 0.0) for stage in VISION)
            kept = f"{tokens['kept_groups']} of {tokens['groups']}"
            print(
                f"{fraction:6.0%}  {kept:>11}  {tokens['prompt_tokens']:13}  {vision:9.0f}  {times['prefill']:10.0f}  "
                f"{answer!r}"
            )
            for note in conversation.notes:
                print(f"note: {note}")


if __name__ == "__main__":
    main(sys.argv[1:])
