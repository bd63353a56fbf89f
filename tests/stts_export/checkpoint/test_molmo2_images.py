"""Which tokens stand around the crops of an image, as the files of a checkpoint say it."""

import json
from pathlib import Path
from typing import Any

from stts_export.checkpoint.json_file import beside
from stts_export.checkpoint.molmo2_images import with_image_tokens
from stts_export.checkpoint.token_ids import MOLMO2, tokens_from_files
from stts_runtime.bundle.manifest import Prompt


PROMPT = Prompt("{video}", "<|im_start|>user\n{content}<|im_end|>\n", "<|im_start|>assistant\n", "<|im_end|>\n")


def test_markers_of_images_are_those_of_config_then_tokenizer_then_beside_the_patch(tmp_path: Path) -> None:
    def found(**files: Any) -> tuple[int | None, ...]:
        for name, content in files.items():
            (tmp_path / f"{name}.json").write_text(json.dumps(content))
        config = beside(tmp_path, "config.json")
        ids = with_image_tokens(tokens_from_files(config, MOLMO2, tmp_path, PROMPT), config, tmp_path)
        return ids.image_start, ids.low_res_image_start, ids.image_column, ids.image_end

    assert found() == (151936, 151940, 151939, 151937)
    assert found(config={"image_patch_id": 52}) == (50, 54, 53, 51)
    markers = [{"id": 60 + i, "content": text} for i, text in enumerate(("<im_end>", "<im_col>", "<im_start>"))]
    assert found(tokenizer={"added_tokens": markers}) == (62, 54, 61, 60)
    named = {
        "image_start_token_id": 70,
        "low_res_image_start_token_id": 71,
        "image_col_id": 72,
        "image_end_token_id": 73,
    }
    assert found(config=named) == (70, 71, 72, 73)
    assert found(processor_config={"use_single_crop_start_token": False}) == (70, 70, 72, 73)
