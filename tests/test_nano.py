"""The shipped nano answers: a change that costs it accuracy, anywhere between clip and answer, is seen here."""

from pathlib import Path

import pytest

from stts_export.evaluate.recorded import SPLIT, generate_asked, read_recorded, shortfalls
from stts_export.evaluate.run import EvaluationRequest, evaluate
from stts_export.recipe.find import find_weights
from stts_export.recipe.read import read_model_recipe


ASSEMBLY = read_model_recipe("nano").assembly
TRAINED = ASSEMBLY.trained if ASSEMBLY is not None else None


@pytest.mark.slow
@pytest.mark.skipif(
    TRAINED is None, reason="recipes/models/nano.toml names no trained weights yet (assembly.trained), so none answer"
)
def test_nano_answers_as_well_as_when_it_was_shipped(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    record = read_recorded(find_weights(str(TRAINED)))
    assert {0.0, 0.5} <= {one.prune for one in record.shares}
    generate_asked(record.data, tmp_path / "asked")
    bundle = request.getfixturevalue("nano_bundle")  # not built where there is nothing to hold it to
    fractions = tuple(one.prune for one in record.shares)
    wanted = EvaluationRequest(str(bundle), tmp_path / "asked", splits=(SPLIT,), fractions=fractions)
    evaluation = evaluate(wanted, lambda stage, share: None)
    assert len(evaluation.questions) >= 200
    assert shortfalls(record, evaluation) == ()
