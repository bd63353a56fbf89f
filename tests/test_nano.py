"""The shipped small models answer: what costs them accuracy, anywhere between clip and answer, is seen here."""

from pathlib import Path

import pytest
from reference.nano import build_nano

from stts_export.evaluate.recorded import SPLIT, generate_asked, read_recorded, shortfalls
from stts_export.evaluate.run import EvaluationRequest, evaluate
from stts_export.graph.capture import Capture
from stts_export.recipe.find import find_weights
from stts_export.recipe.read import read_model_recipe


def trained(model: str) -> str | None:
    """The name of its shipped weights."""
    assembly = read_model_recipe(model).assembly
    return None if assembly is None else assembly.trained


@pytest.mark.slow
@pytest.mark.parametrize("model", ["nano", "nano-qwen3-vl"])
def test_it_answers_as_well_as_when_it_was_shipped(
    model: str, run_folder: Path, captured: Capture, tmp_path: Path
) -> None:
    if (weights := trained(model)) is None:
        pytest.skip(f"recipes/models/{model}.toml names no trained weights (assembly.trained), so none answer")
    record = read_recorded(find_weights(weights))
    assert {0.0, 0.5} <= {one.prune for one in record.shares}
    generate_asked(record.data, tmp_path / "asked")
    bundle = build_nano(run_folder, captured, model=model)
    fractions = tuple(one.prune for one in record.shares)
    wanted = EvaluationRequest(str(bundle), tmp_path / "asked", splits=(SPLIT,), fractions=fractions)
    evaluation = evaluate(wanted, lambda stage, share: None)
    assert len(evaluation.questions) >= 200
    assert shortfalls(record, evaluation) == ()
