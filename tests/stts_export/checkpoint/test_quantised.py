"""Made-up checkpoints in the formats that quantisers write: each is refused by name, before a tensor is read."""

import json

import pytest
import torch
from reference.toy_recipe import toy_config
from safetensors.torch import save_file

from stts_export.checkpoint.layouts import layout_named
from stts_export.checkpoint.open import open_checkpoint
from stts_export.checkpoint.seeded import random_checkpoint
from stts_export.checkpoint.write import write_checkpoint
from stts_export.errors import CheckpointError


STEM = "model.language_model.layers.0.self_attn.q_proj."


def whole() -> torch.Tensor:
    return torch.zeros(8, 1, dtype=torch.int32)


FP8 = {STEM + "weight": torch.zeros(8, 8).to(torch.float8_e4m3fn)}
FORMATS = {
    "awq": (
        {STEM + "qweight": whole(), STEM + "qzeros": whole(), STEM + "scales": torch.zeros(1, 8).half()},
        {},
        "AWQ",
    ),
    "gptq": ({STEM + "g_idx": whole(), STEM + "qweight": whole()}, {}, "GPTQ"),
    "compressed-tensors": (
        {STEM + "weight_packed": whole(), STEM + "weight_shape": torch.tensor([8, 8])},
        {},
        "compressed-tensors, as its tensor model.*weight_packed shows",
    ),
    "fp8": (FP8 | {STEM + "weight_scale_inv": torch.ones(1, 1)}, {}, "FP8"),
    "named": ({}, {"config.json": {"quantization_config": {"quant_method": "gptq"}}}, "quantization_config: gptq"),
    "nested": (
        {},
        {"config.json": {"text_config": {"quantization_config": {"quant_method": "compressed-tensors"}}}},
        "compressed-tensors",
    ),
    "modelopt": ({}, {"hf_quant_config.json": {"quantization": {"quant_algo": "NVFP4"}}}, "NVFP4"),
}


@pytest.mark.parametrize("kind", FORMATS)
def test_a_quantised_checkpoint_is_refused_by_name(tmp_path, kind):
    tensors, files, named = FORMATS[kind]
    config = toy_config(tmp_path, "none")
    write_checkpoint(tmp_path, random_checkpoint(config, seed=1).tensors, config, layout_named("native"))
    open_checkpoint(tmp_path, config)
    if tensors:
        for file in tmp_path.glob("model*"):
            file.unlink()
        save_file(tensors, tmp_path / "model.safetensors")
    for file, content in files.items():
        (tmp_path / file).write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=rf"a quantised checkpoint \(.*{named}.*build --weights int4") as told:
        open_checkpoint(tmp_path, config)
    assert ("take that out of" in str(told.value)) == (not tensors)
