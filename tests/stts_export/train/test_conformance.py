"""The authors' recorded gradients hold on the way that training takes, clips as examples and all."""

from pathlib import Path

import numpy as np
import pytest
import torch

from stts_export.conformance.case import case_folders, model_from_case, read_case
from stts_export.conformance.tolerances import GRADIENT_TOLERANCE, VALUE_TOLERANCE
from stts_export.train.example import Example
from stts_export.train.forward import Pruning, see


CASES = case_folders(Path(__file__).parents[2] / "data" / "conformance")


@pytest.mark.parametrize("folder", CASES, ids=lambda folder: folder.name)
def test_the_authors_gradients_hold_through_the_training_path(folder: Path) -> None:
    case = read_case(folder)
    model, ours = model_from_case(case)
    clips, first = [], 0
    for frames in case.videos:
        pixels = torch.from_numpy(case.frames[first : first + frames])
        clips.append(Example(pixels, np.arange(frames) / 2, ()))
        first += frames
    features, aux_loss, _ = see(model, clips, Pruning(case.prune_fraction, aux_coefficient=case.aux_coefficient))
    probe = case.expected["probe"]
    ((features * probe).sum() / len(probe) + aux_loss).backward()

    def error(got: torch.Tensor, expected: torch.Tensor) -> float:
        return float((got - expected).abs().max() / (expected.abs().max() or 1))

    assert error(aux_loss.detach().reshape(1), case.expected["aux_loss"]) <= VALUE_TOLERANCE
    parameters = dict(model.named_parameters())
    recorded = [name for name in case.expected if name.startswith("grad.")]
    assert recorded
    for name in recorded:
        gradient = parameters[ours[name.removeprefix("grad.")]].grad
        assert gradient is not None
        assert error(gradient, case.expected[name]) <= GRADIENT_TOLERANCE, name
