"""How a recipe, a folder and a name on a hub are told apart, and what is fetched of a checkpoint there."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from reference.hub import StandInHub, go_online, stand_in_hub, use_hub
from reference.released_config import RELEASED
from reference.toy_bundle import toy_request
from safetensors.torch import save

from stts_export.checkpoint.locate import find_checkpoint, find_model, find_subject, names_recipe
from stts_export.cli import main
from stts_export.errors import CheckpointError, RecipeError
from stts_export.pipeline.request import resolve
from stts_runtime.bundle.manifest import Source
from stts_runtime.errors import HubError, UsageError


CONFIG = json.dumps({**RELEASED, "tie_word_embeddings": True}).encode()
WEIGHTS = save({"model.transformer.ln_f.weight": torch.ones(1)})
SCORER = "model.vision_backbone.image_vit.transformer.temporal_token_scorer.mlp.w1.weight"
BESIDE = {
    "README.md": b"card",
    "modeling_molmo2.py": b"raise SystemExit",
    "pytorch_model.bin": b"pickle",
    "preprocessor_config.json": b"{}",
    "original/model.safetensors": b"x",
}
CHECKPOINT = {"config.json": CONFIG, "model.safetensors": WEIGHTS, **BESIDE}


@pytest.fixture
def hub(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with stand_in_hub() as hub:
        use_hub(monkeypatch, hub.address, tmp_path / "cache")
        hub.publish("allenai/Toy-4B", CHECKPOINT, license="apache-2.0")
        yield hub


def names_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_checkpoint_on_a_hub_is_a_model_and_only_what_is_read_is_fetched(hub: StandInHub) -> None:
    recipe, folder = find_model("allenai/Toy-4B")
    assert folder is not None
    assert names_in(folder) == ["config.json", "model.safetensors", "preprocessor_config.json"]
    assert (recipe.config.name, recipe.license, recipe.prune_fraction) == ("toy-4b", "apache-2.0", 0.0)
    assert find_checkpoint("allenai/Toy-4B") == folder


def test_of_shards_those_are_fetched_that_the_index_names_and_none_to_learn_what_it_is(hub: StandInHub) -> None:
    index = {"weight_map": {"model.transformer.ln_f.weight": "a.safetensors", SCORER: "b.safetensors"}}
    shards = {"a.safetensors": WEIGHTS, "b.safetensors": WEIGHTS, "consolidated.safetensors": b"other"}
    hub.publish(
        "me/sharded",
        {"config.json": CONFIG, "model.safetensors.index.json": json.dumps(index).encode(), **shards},
    )
    recipe, folder = find_model("me/sharded", weights=False)
    assert folder is not None
    assert names_in(folder) == ["config.json", "model.safetensors.index.json"]
    assert recipe.config.scorer.kind == "learned"
    find_model("me/sharded")
    assert names_in(folder) == ["a.safetensors", "b.safetensors", "config.json", "model.safetensors.index.json"]


def test_an_estimate_of_a_model_on_a_hub_needs_no_shard(hub: StandInHub, capsys: pytest.CaptureFixture) -> None:
    index = {"weight_map": {"model.transformer.ln_f.weight": "a.safetensors"}}
    hub.publish(
        "me/large",
        {"config.json": CONFIG, "model.safetensors.index.json": json.dumps(index).encode(), "a.safetensors": WEIGHTS},
    )
    assert main(["estimate", "--model", "me/large", "--target", "h100", "--frames", "8"]) == 0
    assert not any(path.startswith("/lfs") for _, path in hub.asked)


def test_the_bundle_of_a_hubs_checkpoint_says_its_name_and_commit(hub: StandInHub, tmp_path: Path) -> None:
    request = toy_request(tmp_path, "ffd")
    folder = request.checkpoint
    assert isinstance(folder, Path)
    assert resolve(request, lambda stage, share: None).source == Source("checkpoint", "Apache-2.0")
    commit = hub.publish("me/toy", folder)
    hub.publish("me/toy", {}, "main")  # moved on since: a revision is that revision
    by_name = replace(request, checkpoint=f"me/toy@{commit}")
    source = resolve(by_name, lambda stage, share: None).source
    assert source == Source("checkpoint", "Apache-2.0", "me/toy", commit)
    cached = find_checkpoint(f"me/toy@{commit}")
    assert resolve(replace(request, checkpoint=cached), lambda stage, share: None).source == source


def test_a_recipes_name_wins_over_a_folder_and_says_how_that_is_named(hub: StandInHub, tmp_path: Path) -> None:
    (tmp_path / "nano").mkdir()
    notes: list[str] = []
    recipe, folder = find_model("nano", log=notes.append)
    assert (recipe.config.name, folder) == ("nano", None)
    assert notes == ["nano is taken as the recipe of that name; the folder nano here is named by its path, ./nano"]
    with pytest.raises(CheckpointError, match=r"nano/config\.json: cannot be read"):
        find_model("./nano")


def test_a_folder_without_a_slash_that_is_no_recipes_name_is_a_folder(hub: StandInHub, tmp_path: Path) -> None:
    (tmp_path / "Molmo2-4B").mkdir()
    assert not names_recipe("Molmo2-4B")
    with pytest.raises(CheckpointError, match=r"Molmo2-4B/config\.json: cannot be read"):
        find_model("Molmo2-4B")


@pytest.mark.parametrize(
    ("model", "error", "said"),
    [
        ("nanoo", RecipeError, r"no recipe named 'nanoo' in models\. Did you mean nano\?"),
        ("./nano", UsageError, r"\./nano: no such folder\. Did you mean the recipe nano\?"),
        ("/absent/Molmo2-4B", UsageError, r"/absent/Molmo2-4B: no such folder\. Did you mean the recipe molmo2-4b\?"),
        ("~/absent-folder", UsageError, r"~/absent-folder: no such folder\. Give the path of a checkpoint"),
        ("a/b/c", UsageError, r"a/b/c: no such folder"),
        ("dir/", UsageError, r"dir/: no such folder"),
        ("dir/recipe.toml", RecipeError, r"dir/recipe\.toml: no such recipe file"),
        ("build/x.stts", UsageError, r"build/x\.stts: no such folder"),
        ("org/na me", UsageError, r"'org/na me' is no path that exists, and no name on a hub either"),
        ("org/name@", UsageError, r"'' is no revision"),
    ],
)
def test_what_is_not_there_is_called_by_what_it_was_and_no_hub_is_asked(
    hub: StandInHub, model: str, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        find_model(model)
    assert hub.asked == []


def test_a_name_that_no_hub_has_says_that_neither_a_folder_is_there_and_names_the_recipe(hub: StandInHub) -> None:
    said = r"has no model recipes/nano .*There is no folder recipes/nano here either\. Did you mean the recipe nano\?"
    with pytest.raises(HubError, match=said):
        find_model("recipes/nano")


def test_a_repository_without_safetensors_is_told_before_anything_is_fetched(hub: StandInHub) -> None:
    hub.publish("me/pickles", {"config.json": CONFIG, "pytorch_model.bin": b"pickle"})
    hub.publish("me/empty", {"config.json": CONFIG})
    with pytest.raises(CheckpointError, match=r"no \*\.safetensors, but pytorch_model\.bin: weights in pickle form"):
        find_model("me/pickles")
    with pytest.raises(CheckpointError, match=r"no \*\.safetensors: it is not the repository of a checkpoint's"):
        find_model("me/empty")
    assert hub.fetched() == []


def test_a_bundle_is_no_checkpoint_wherever_it_lies(hub: StandInHub, tmp_path: Path) -> None:
    hub.publish("me/bundle", {"manifest.json": b"{}", "decoder.onnx": b"x"})
    for find in (find_model, find_checkpoint):
        with pytest.raises(CheckpointError, match=r"me/bundle is a bundle already .*`stts-runtime run me/bundle` asks"):
            find("me/bundle")
    assert hub.fetched() == []
    (tmp_path / "made.stts").mkdir()
    (tmp_path / "made.stts" / "manifest.json").write_text("{}")
    for find in (find_model, find_checkpoint):
        with pytest.raises(UsageError, match=r"made\.stts is a bundle already .*`stts-runtime run"):
            find("./made.stts")


def test_a_file_of_another_kind_is_no_checkpoint(tmp_path: Path) -> None:
    for name, is_one in (("clip.mp4", False), ("model.safetensors", True), ("model.bin", True)):
        (tmp_path / name).write_bytes(b"x")
        if is_one:
            assert find_checkpoint(str(tmp_path / name)) == tmp_path / name
        else:
            with pytest.raises(UsageError, match=r"clip\.mp4 is a file, and not of safetensors: name a "):
                find_checkpoint(str(tmp_path / name))


def test_weights_without_a_config_want_a_recipe(hub: StandInHub) -> None:
    hub.publish("me/weights", {"model.safetensors": WEIGHTS})
    with pytest.raises(CheckpointError, match=r"me/weights has no config\.json .*--checkpoint me/weights"):
        find_model("me/weights")
    assert find_checkpoint("me/weights") is not None


def test_half_a_checkpoint_in_the_cache_is_told_where_the_hub_is_not_asked(
    hub: StandInHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = json.dumps({"weight_map": {"model.transformer.ln_f.weight": "a.safetensors"}}).encode()
    hub.publish("me/half", {"config.json": CONFIG, "model.safetensors.index.json": index, "a.safetensors": WEIGHTS})
    find_model("me/half", weights=False)
    go_online(monkeypatch, False)
    with pytest.raises(HubError, match=r"only a part of me/half .*: a\.safetensors is missing\. Run this once"):
        find_model("me/half")


def test_the_command_ends_with_one_message_and_its_code(hub: StandInHub, capsys: pytest.CaptureFixture) -> None:
    codes = [
        main(["build", "--model", name, "-o", "out.stts"]) for name in ("./absent", "me/none", "allenai/Toy-4B@gone")
    ]
    lines = capsys.readouterr().err.splitlines()
    assert codes == [2, 1, 1]
    assert [line.startswith("error: ") for line in lines] == [True] * 3
    assert "no such folder" in lines[0]
    assert "has no model me/none" in lines[1]
    assert "has no revision 'gone'" in lines[2]


def test_what_is_evaluated_may_be_a_bundle_or_a_checkpoint_on_a_hub(hub: StandInHub) -> None:
    assert find_subject("nano") == "nano"
    assert find_subject("./run/stage") == "./run/stage"
    assert Path(find_subject("allenai/Toy-4B"), "model.safetensors").is_file()
