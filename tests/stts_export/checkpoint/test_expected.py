import math
from pathlib import Path

import pytest
import torch
from reference.toy_recipe import toy_config

from stts_export.checkpoint.expected import expected_tensors
from stts_export.models.model import Model
from stts_export.recipe.read import read_model_recipe


@pytest.mark.parametrize("scorer", ["learned", "cosine", "random", "none"])
@pytest.mark.parametrize("norm", ["head", "full", "none"])
@pytest.mark.parametrize("tied", [True, False])
def test_expected_names_and_shapes_are_those_of_the_modules(tmp_path: Path, scorer: str, norm: str, tied: bool) -> None:
    config = toy_config(tmp_path, scorer, query_key_norm=norm, tied_embedding=tied, attention_bias=tied)
    with torch.device("meta"):
        model = Model(config)
    assert expected_tensors(config) == {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def test_molmo2_4b_lite_has_the_published_sizes() -> None:
    millions: dict[str, float] = {}
    for name, shape in expected_tensors(read_model_recipe("molmo2-4b-lite-50").config).items():
        part = name.split(".")[0]
        millions[part] = millions.get(part, 0) + math.prod(shape) / 1e6
    assert {part: round(count, 1) for part, count in millions.items()} == {
        "vision_tower": 382.5,
        "scorer": 33.8,
        "connector": 56.6,
        "decoder": 4022.8,
    }
