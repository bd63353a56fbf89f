"""`stts-export estimate`: what it prints, draws and refuses."""

import json

import numpy as np
import pytest
from reference.released_config import RELEASED
from safetensors.numpy import save_file

from stts_export.cli import main


ORIN = ["estimate", "--model", "molmo2-4b", "--target", "jetson-orin", "--frames", "16", "--prune", "0.5"]


def test_tables_are_printed_and_labelled(capsys):
    assert main(ORIN) == 0
    printed = capsys.readouterr().out
    assert printed.count("PREDICTED") == 3
    for said in (
        "weights",
        "building, at its peak",
        "vision_encode",
        "to the first token",
        "prompt tokens",
        "note: times",
    ):
        assert said in printed


def test_json_is_the_record(capsys):
    assert main([*ORIN, "--json", "--precision", "bfloat16", "--answer-tokens", "10"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert (made["status"], made["precision"], made["answer_tokens"]) == ("PREDICTED", "bfloat16", 10)
    memory = made["memory"]
    assert memory["total"] > memory["weights"] + memory["cache"]
    assert memory["build_low"] < memory["build_high"] < 5 * memory["engines"]["decoder"]
    assert memory["engine_disk"] > memory["bundle_disk"]
    assert [stage["stage"] for stage in made["stages"]] == ["vision_score", "vision_encode", "prefill", "decode"]


def test_a_plot_that_is_to_be_no_png_is_refused(capsys, tmp_path):
    with pytest.raises(SystemExit, match="2"):
        main([*ORIN, "--plot", str(tmp_path / "latency.txt")])
    assert "latency.txt: the picture is written as .png" in capsys.readouterr().err


def test_the_plot_is_written_where_asked(capsys, tmp_path):
    assert main([*ORIN, "--plot", str(tmp_path / "latency.png")]) == 0
    assert (tmp_path / "latency.png").stat().st_size > 10_000


def test_frames_and_fraction_default_to_the_models_and_the_targets(capsys):
    assert main(["estimate", "--model", "micro", "--target", "jetson-orin-nano", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert (made["frames"], made["prune_fraction"], made["packing"]) == (32, 0.5, "ragged")


def test_a_checkpoint_directory_is_a_model(capsys, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({**RELEASED, "tie_word_embeddings": True}))
    save_file({"model.transformer.ln_f.weight": np.ones(1, np.float32)}, tmp_path / "model.safetensors")
    checkpoint = ["estimate", "--model", str(tmp_path), "--target", "jetson-orin", "--frames", "16", "--json"]
    assert main([*checkpoint, "--prune", "0.5"]) == 0
    of_checkpoint = json.loads(capsys.readouterr().out)
    assert main([*ORIN, "--json"]) == 0
    of_recipe = json.loads(capsys.readouterr().out)
    assert {**of_checkpoint, "model": ""} == {**of_recipe, "model": ""}


def test_a_card_is_described_by_options(capsys):
    card = ["--memory", "24", "--bandwidth", "1008", "--tflops", "165"]
    assert main(["estimate", "--model", "molmo2-4b", "--target", "rtx", "--frames", "16", *card, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["first_token_ms"] > 0


def test_what_cannot_fit_is_a_failed_check_with_its_numbers_printed_first(capsys):
    assert main(["estimate", "--model", "molmo2-8b", "--target", "jetson-orin-nano", "--json"]) == 1
    printed = capsys.readouterr()
    assert json.loads(printed.out)["fit"]["fits"] is False
    assert "does not fit jetson-orin-nano" in printed.err
    assert "what would:" in printed.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model", "micro"], "--target is missing; or ask for --published"),
        (["--target", "l4"], "--model is missing"),
        (["--model", "molmo2-4c", "--target", "l4"], "Did you mean molmo2-4b?"),
        (["--model", "micro", "--target", "jetson-orn"], "Did you mean jetson-orin?"),
        (["--model", "micro", "--target", "cpu"], "target cpu does not say everything an estimate needs"),
        (["--model", "micro", "--target", "l4", "--precision", "fp16"], "--precision fp16 is not one of target l4's"),
        (["--model", "micro", "--target", "l4", "--prune", "1.5"], "--prune is 1.5, wanted a fraction"),
        (["--model", "micro", "--target", "l4", "--frames", "0"], "--frames is 0, wanted at least 1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_use_is_explained(capsys, arguments, said):
    assert main(["estimate", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_published_rows_are_json_too(capsys):
    assert main(["estimate", "--published", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["rows"]) == 51
    assert found["median_absolute_error_of_times"]["left_out_ratio"] < 0.25
