"""What goes to a hub and what stays, what the card says, and every way in which a push is refused."""

import dataclasses
import hashlib
import json
import re
from pathlib import Path

import pytest
import yaml
from huggingface_hub import constants
from reference.engine_bundle import write_engine_set
from reference.hub import TOKEN, go_online, stand_in_hub, use_hub
from reference.toy_manifest import TOY_MANIFEST, TOY_SPEC

from stts_export.cli import main
from stts_export.publish.card import model_card
from stts_export.publish.push import publication, push
from stts_runtime.bundle.locate import locate_bundle
from stts_runtime.bundle.manifest import FileEntry, GraphEntry, Source
from stts_runtime.bundle.open import MANIFEST, manifest_bytes, open_bundle
from stts_runtime.errors import BundleError, HubError, UsageError
from stts_runtime.verify.report import FAILED, PASSED, REPORT, CaseResult, Comparison, Report, report_json


# huggingface_hub hands httpx2 the file that it uploads in a way that httpx2 no longer likes
pytestmark = pytest.mark.filterwarnings(
    "ignore:Use 'content=<...>' to upload raw bytes/text content:DeprecationWarning"
)

SOURCE = Source("checkpoint", "Apache-2.0", "allenai/Molmo2-4B", "c" * 40)


def report(verdict: str = PASSED) -> Report:
    compared = Comparison("logits", verdict, cosine=0.99999, max_error=2.5e-6, message="too far")
    return Report(
        "toy", "torch, float32", "onnxruntime 1.32", "float32", (CaseResult("decoder", "prefill", (compared,)),)
    )


def write_bundle(folder: Path, found: Report | None = None, **changes: object) -> Path:
    files = {"decoder.onnx": b"graph", "weights/decoder.bin": b"w" * 5000, "tokenizer.json": b"{}"}
    if found is not None:
        files[REPORT] = report_json(found).encode()
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    entries = tuple(FileEntry(n, len(data), hashlib.sha256(data).hexdigest()) for n, data in sorted(files.items()))
    manifest = dataclasses.replace(
        TOY_MANIFEST, files=entries, graphs={"decoder": GraphEntry("decoder.onnx", TOY_SPEC)}, source=SOURCE
    )
    (folder / MANIFEST).write_bytes(manifest_bytes(dataclasses.replace(manifest, **changes)))
    return folder


@pytest.fixture
def bundle(tmp_path):
    return write_bundle(tmp_path / "toy.stts", report())


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with stand_in_hub() as hub:
        use_hub(monkeypatch, hub.address, tmp_path / "cache", TOKEN)
        # large files go by plain HTTP: the protocol that the library would take instead needs a server of its own
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        yield hub


def metadata(card: str) -> dict:
    return yaml.safe_load(card.split("---")[1])


def test_a_pushed_bundle_is_the_bundle_and_a_card_and_can_be_run_from_there(hub, bundle, capsys):
    assert main(["push", str(bundle), "me/toy"]) == 0
    assert re.search(rf"me/toy: 6 files, .*{hub.address}/me/toy/commit/\w+\n", capsys.readouterr().out)
    (commit,) = [one for one in hub.repositories["me/toy"].commits.values() if MANIFEST in one]  # one, and whole
    assert set(commit) == {".gitattributes", "README.md", MANIFEST, *names_of(bundle)}
    fetched = open_bundle(locate_bundle("me/toy"), check=True)
    assert fetched.manifest == open_bundle(bundle).manifest


def names_of(bundle: Path) -> set[str]:
    return {entry.path for entry in open_bundle(bundle).manifest.files}


def test_a_private_repository_and_a_branch_are_made_and_taken_as_said(hub, bundle):
    push(publication(bundle, "me/hidden"), private=True)
    assert hub.repositories["me/hidden"].private
    hub.publish("me/hidden", {"kept": b"x"}, "v2")
    push(publication(bundle, "me/hidden", "v2"))
    branches, commits = hub.repositories["me/hidden"].branches, hub.repositories["me/hidden"].commits
    assert {"kept", MANIFEST, "README.md"} <= set(commits[branches["v2"]])
    assert branches["main"] != branches["v2"]


def test_a_dry_run_shows_card_and_files_and_asks_nobody(hub, bundle, capsys):
    assert main(["push", str(bundle), "me/toy", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert 'base_model: "allenai/Molmo2-4B"' in shown
    assert re.search(r"weights/decoder\.bin\n", shown)
    assert "would go to me/toy; nothing was sent" in shown
    assert main(["push", str(bundle), "me/toy", "--dry-run", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert set(told["files"]) == {MANIFEST, "README.md", *names_of(bundle)}
    assert (told["commit"], told["verified"]) == (None, True)
    assert hub.asked == []


def test_the_card_has_the_hubs_metadata_and_what_the_manifest_and_its_verification_say(bundle):
    card = publication(bundle, "me/toy").card
    told = metadata(card)
    assert told["license"] == "apache-2.0"
    assert told["library_name"] == "stts"
    assert told["pipeline_tag"] == "video-text-to-text"
    assert told["base_model"] == "allenai/Molmo2-4B"
    assert {"stts", "token-pruning", "onnx", TOY_MANIFEST.target.name} <= set(told["tags"])
    assert f"allenai/Molmo2-4B at {'c' * 40}" in card
    assert "agrees with the model on 1 runs" in card
    assert "| decoder, prefill | 1 | 2.5e-06 | 0.999990 |" in card
    assert "stts-runtime run me/toy --video" in card


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        (None, {}),
        (Source("assembled"), {}),
        (Source("checkpoint", "Our own: no resale"), {"license": "other", "license_name": "Our own: no resale"}),
        (Source("checkpoint", "MIT", "1/2", "d"), {"license": "mit", "base_model": "1/2"}),
    ],
)
def test_what_nobody_told_is_left_out_of_the_metadata_and_odd_text_is_quoted(source, wanted):
    told = metadata(model_card(dataclasses.replace(TOY_MANIFEST, source=source), None, "me/toy"))
    assert {key: told.get(key) for key in ("license", "license_name", "base_model") if key in told} == wanted


def test_the_cards_metadata_is_good_to_the_hubs_own_reader(bundle):
    from huggingface_hub import ModelCard

    assert ModelCard(publication(bundle, "me/toy").card).data.pipeline_tag == "video-text-to-text"


@pytest.mark.parametrize(
    ("found", "said"),
    [(None, r"was not verified \(built with --no-verify\)"), (report(FAILED), "failed: decoder departs")],
)
def test_a_bundle_that_was_not_verified_is_pushed_only_where_that_is_said(tmp_path, found, said):
    bundle = write_bundle(tmp_path / "bare.stts", found)
    with pytest.raises(UsageError, match=rf"{said}.*--unverified, and its card says so"):
        publication(bundle, "me/toy")
    what = publication(bundle, "me/toy", unverified=True)
    assert not what.verified
    assert ("**Not verified.**" if found is None else "departs from the model") in what.card


def test_engines_stay_here_and_are_told(hub, bundle, capsys):
    write_engine_set(bundle, open_bundle(bundle).manifest)
    assert main(["push", str(bundle), "me/toy", "--dry-run"]) == 0
    told = capsys.readouterr()
    assert "engines/" not in told.out
    assert "stay here: they are for one kind of GPU alone" in told.err


def test_a_damaged_bundle_is_not_pushed(hub, bundle):
    (bundle / "tokenizer.json").write_bytes(b"[]")
    with pytest.raises(BundleError, match=r"damaged: tokenizer\.json"):
        publication(bundle, "me/toy")


@pytest.mark.parametrize("name", ["toy", "./toy", "me/toy.stts", "me/toy@v2"])
def test_a_name_that_could_not_be_run_by_is_refused(bundle, name):
    with pytest.raises(UsageError, match="is no name for a bundle on a hub: wanted ORG/NAME"):
        publication(bundle, name)


def test_whoever_may_not_push_is_told_and_nothing_is_there(hub, bundle, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_another")
    with pytest.raises(HubError, match=r"refuses me/toy to the token that was found \(HTTP 401\): `hf auth login`"):
        push(publication(bundle, "me/toy"))
    assert "me/toy" not in hub.repositories


def test_no_network_is_told_and_offline_is_refused_before_anyone_is_asked(hub, bundle, monkeypatch):
    what = publication(bundle, "me/toy")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubError, match=r"cannot be reached.*me/toy is as it was"):
        push(what)
    go_online(monkeypatch, False)
    with pytest.raises(HubError, match="HF_HUB_OFFLINE is set, so nothing is pushed"):
        push(what)


def test_a_branch_that_is_not_there_is_told(hub, bundle):
    with pytest.raises(HubError, match="me/toy has no revision 'v9'"):
        push(publication(bundle, "me/toy", "v9"))
