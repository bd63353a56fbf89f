import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from reference.released_config import RELEASED
from safetensors.torch import save_file

from stts_export.checkpoint.config_json import config_from_checkpoint
from stts_export.errors import CheckpointError
from stts_export.recipe.config import ModelConfig
from stts_export.recipe.read import read_model_recipe
from stts_runtime.bundle.manifest import Cropping


def write(folder: Path, config: dict[str, Any], scorer: bool = False, **files: Any) -> Path:
    names = ["model.transformer.ln_f.weight"]
    if scorer:
        names.append("model.vision_backbone.image_vit.transformer.temporal_token_scorer.mlp.w1.weight")
    save_file({name: torch.ones(1) for name in names}, folder / "model.safetensors")
    for name, content in {"config": config, **files}.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def changed(part: str, **values: Any) -> dict[str, Any]:
    return {**RELEASED, part: {**RELEASED[part], **values}}


def unnamed(config: ModelConfig) -> dict[str, Any]:
    return {key: value for key, value in vars(config).items() if key != "name"}


def test_the_released_spelling_gives_the_recipe_of_the_4b_model(tmp_path: Path) -> None:
    config = config_from_checkpoint(write(tmp_path, {**RELEASED, "tie_word_embeddings": True}))
    assert unnamed(config) == unnamed(read_model_recipe("molmo2-4b").config)


def test_a_scorer_among_the_weights_gives_the_recipe_of_the_pruned_model(tmp_path: Path) -> None:
    config = config_from_checkpoint(write(tmp_path, {**RELEASED, "tie_word_embeddings": True}, scorer=True))
    assert unnamed(config) == unnamed(read_model_recipe("molmo2-4b-lite-50").config)


def test_the_olmo_kind_gives_the_recipe_of_the_o_7b_model(tmp_path: Path) -> None:
    olmo: dict[str, Any] = changed(
        "text_config",
        hidden_size=4096,
        num_key_value_heads=32,
        vocab_size=100278,
        num_hidden_layers=32,
        intermediate_size=11008,
        rope_theta=500000.0,
        rope_scaling={
            "rope_type": "yarn",
            "factor": 8.0,
            "original_max_position_embeddings": 8192,
            "attention_factor": 1.2079441541679836,
            "beta_fast": 32.0,
            "beta_slow": 1.0,
        },
        rope_scaling_layers=[3, 7, 11, 15, 19, 23, 27, 31],
        qk_norm_type="olmo",
        norm_after=True,
        max_position_embeddings=65536,
    )
    olmo["adapter_config"] = {**RELEASED["adapter_config"], "text_hidden_size": 4096, "intermediate_size": 11008}
    olmo |= {"image_patch_id": 100280, "frame_start_token_id": 100285, "frame_end_token_id": 100286}
    config = config_from_checkpoint(write(tmp_path, olmo))
    assert unnamed(config) == unnamed(read_model_recipe("molmo2-o-7b").config)


IMAGES = {"max_crops": 24, "overlap_margins": [3, 2], "pooling_size": [1, 1]}
PROCESSOR = {"image_use_col_tokens": False, "use_single_crop_col_tokens": True}


@pytest.mark.parametrize("is_inside", [False, True], ids=["a file of its own", "inside the processor's"])
def test_the_image_processors_settings_are_read_wherever_they_lie(tmp_path: Path, is_inside: bool) -> None:
    # transformers writes the one, and reads both
    images = {"processor_config": {**PROCESSOR, "image_processor": IMAGES}} if is_inside else {}
    apart = {"processor_config": PROCESSOR, "preprocessor_config": IMAGES}
    config = config_from_checkpoint(write(tmp_path, RELEASED, **(images or apart)))
    assert config.image == Cropping(max_crops=24, overlap=(3, 2), pool=1, columns=False, low_res_columns=True)


@pytest.mark.parametrize(("said", "wanted"), [(None, True), (True, True), (False, False)])
def test_a_whole_image_has_columns_where_its_crops_do_unless_a_file_says_otherwise(
    tmp_path: Path, said: bool | None, wanted: bool
) -> None:
    processor = {"image_use_col_tokens": True, "use_single_crop_col_tokens": said}
    config = config_from_checkpoint(write(tmp_path, RELEASED, processor_config=processor))
    assert config.image is not None
    assert (config.image.columns, config.image.low_res_columns) == (True, wanted)


@pytest.mark.parametrize(
    ("images", "said"),
    [
        ({"pooling_size": [2, 3]}, "pooling_size is [2, 3]"),
        ({"pooling_size": [3, 3]}, "image.pool is 3; wanted one of 1, 2"),
        ({"max_crops": 0}, "image.max_crops is 0; wanted a number from 1 to 128"),
        (
            {"overlap_margins": [14, 13]},
            "image.overlap is (14, 13); wanted patches, fewer together than a",
        ),
        ({"overlap_margins": [4]}, "key overlap_margins is [4]; wanted a list of at least 2 whole numbers"),
    ],
)
def test_settings_of_images_that_cannot_be_are_refused(tmp_path: Path, images: dict[str, Any], said: str) -> None:
    with pytest.raises(CheckpointError, match=re.escape(said)):
        config_from_checkpoint(write(tmp_path, RELEASED, preprocessor_config=images))


def test_files_beside_it_give_sampling_stop_and_bos(tmp_path: Path) -> None:
    config = config_from_checkpoint(
        write(
            tmp_path,
            RELEASED,
            video_preprocessor_config={"num_frames": 384, "max_fps": 4, "frame_sample_mode": "uniform_last_frame"},
            generation_config={"eos_token_id": [7, 8]},
            tokenizer_config={"bos_token": None, "eos_token": {"content": "<end>"}},
            tokenizer={"added_tokens": [{"id": 7, "content": "<end>"}]},
        )
    )
    assert config.frame_sampling.method == "uniform_last_frame"
    assert (config.frame_sampling.max_frames, config.frame_sampling.max_fps) == (384, 4.0)
    assert (config.tokens.bos, config.tokens.stop) == (7, (7, 8))


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({**RELEASED, "model_type": "llava"}, "model_type is 'llava'; wanted 'molmo2' or 'qwen3_vl'"),
        ({k: v for k, v in RELEASED.items() if k != "vit_config"}, "key vision_config or vit_config is missing"),
        (changed("text_config", hidden_size=None), "text_config: key hidden_size is missing"),
        (changed("text_config", num_key_value_heads=7), "decoder.kv_heads is 7; wanted a divisor"),
        (changed("text_config", qk_norm_type="other"), "qk_norm_type is 'other'"),
        (changed("text_config", hidden_act="gelu"), "hidden_act is 'gelu'; the modules here compute 'silu' only"),
        (changed("text_config", rope_scaling={"rope_type": "linear"}), "rope_type is 'linear'"),
        (changed("vit_config", hidden_act="quick_gelu"), "hidden_act is 'quick_gelu'"),
        (changed("vit_config", image_default_input_size=[378, 252]), "image_size is [378, 252]"),
        (changed("vit_config", image_num_pos=730), "image_num_pos is 730"),
        (changed("adapter_config", intermediate_size=1), "intermediate_size is 1; the modules here compute 9728 only"),
        (changed("vit_config", hidden_size="wide"), "config.json: vision_config: key hidden_size is 'wide'"),
        (changed("vit_config", image_default_input_size=[]), "wanted a list of at least 1 whole numbers"),
        (changed("vit_config", image_patch_size=0), "key patch_size is 0; wanted a whole number from 1"),
        (changed("vit_config", num_attention_heads=0), "key num_attention_heads is 0; wanted a whole number from 1"),
        (changed("text_config", num_attention_heads=0), "key num_attention_heads is 0; wanted a whole number from 1"),
        (changed("text_config", num_hidden_layers=10**12), "key num_hidden_layers is 1000000000000; wanted"),
        (changed("text_config", rope_scaling=3), "text_config: key rope_scaling is 3; wanted a JSON object"),
        (changed("text_config", rope_theta=float("nan")), "key rope_theta is nan; wanted a finite number"),
        (changed("text_config", rope_theta=10**400), "key rope_theta is 1000"),
        (changed("text_config", qk_norm_type=["qwen3"]), "qk_norm_type is ['qwen3']"),
        (changed("adapter_config", vit_layers=[10**9]), "wanted blocks below 27"),
    ],
)
def test_what_the_modules_cannot_compute_is_refused(tmp_path: Path, config: dict[str, Any], said: str) -> None:
    with pytest.raises(CheckpointError, match=re.escape(said)) as caught:
        config_from_checkpoint(write(tmp_path, config))
    assert "config.json" in str(caught.value)


def test_a_missing_or_damaged_config_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json: cannot be read"):
        config_from_checkpoint(tmp_path)
    for text in ("{", "[]"):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(CheckpointError, match=r"config\.json: (not valid JSON|wanted a JSON object)"):
            config_from_checkpoint(tmp_path)


def test_json_nested_too_deep_and_other_files_of_wrong_types_are_refused_by_name(tmp_path: Path) -> None:
    (write(tmp_path, RELEASED) / "config.json").write_text("[" * 50_000)
    with pytest.raises(CheckpointError, match=r"config\.json: not valid JSON"):
        config_from_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match=r"video_preprocessor_config\.json: key pooling_size is \[\]"):
        config_from_checkpoint(write(tmp_path, RELEASED, video_preprocessor_config={"pooling_size": []}))
