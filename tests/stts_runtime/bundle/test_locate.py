"""A bundle by its name on a hub: fetched, confined, never written into; and as a folder of one's own."""

import dataclasses
import hashlib
import os
import shutil

import pytest
from reference.hub import go_online, stand_in_hub, use_hub
from reference.toy_bundle import toy_frames
from reference.toy_manifest import TOY_MANIFEST, TOY_SPEC

from stts_runtime import load
from stts_runtime.build import build_engines
from stts_runtime.bundle.engine_choice import find_engine_set
from stts_runtime.bundle.locate import build_command, bundle_title, locate_bundle
from stts_runtime.bundle.manifest import FileEntry, GraphEntry
from stts_runtime.bundle.open import MANIFEST, manifest_bytes, open_bundle
from stts_runtime.bundle.pull import pull
from stts_runtime.cli import main
from stts_runtime.errors import BundleError, EngineError, HubError, UsageError


FILES = {"decoder.onnx": b"graph", "weights/decoder.bin": bytes(range(256)) * 40, "tokenizer.json": b"{}"}


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with stand_in_hub() as hub:
        use_hub(monkeypatch, hub.address, tmp_path / "cache")
        entries = tuple(FileEntry(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in FILES.items())
        manifest = dataclasses.replace(
            TOY_MANIFEST, files=entries, graphs={"decoder": GraphEntry("decoder.onnx", TOY_SPEC)}
        )
        other = {"README.md": b"card", "notes.txt": b"?", ".gitattributes": b""}
        hub.publish("me/toy", {MANIFEST: manifest_bytes(manifest), **FILES, **other})
        yield hub


def test_a_bundle_is_fetched_by_its_name_and_nothing_but_what_its_manifest_lists(hub):
    folder = locate_bundle("me/toy")
    open_bundle(folder, check=True)
    assert sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()) == sorted(
        [MANIFEST, *FILES]
    )
    assert bundle_title("me/toy") == bundle_title(folder) == "me/toy"
    assert bundle_title("some/folder.stts") == "folder"


def test_a_folder_that_is_there_is_taken_and_no_hub_is_asked(hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "me" / "toy").mkdir(parents=True)
    assert locate_bundle("me/toy").resolve() == tmp_path / "me" / "toy"
    assert str(locate_bundle("build/absent.stts")) == "build/absent.stts"
    with pytest.raises(BundleError, match="nothing is there"):
        load("./me/absent")
    assert hub.asked == []


def test_a_checkpoint_is_no_bundle_and_what_makes_one_of_it_is_said(hub, tmp_path, capsys):
    hub.publish("me/weights", {"config.json": b"{}", "model.safetensors": b"x"})
    with pytest.raises(BundleError, match=r"me/weights holds no bundle.*stts-export build --model me/weights -o"):
        locate_bundle("me/weights")
    assert not any(path.startswith("/lfs") for _, path in hub.asked)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(BundleError, match="is a checkpoint, and no bundle: make one of it with `stts-export build"):
        open_bundle(tmp_path)


def test_a_bundle_that_lies_in_a_folder_of_its_repository_is_told(hub):
    hub.publish("me/nested", {f"toy.stts/{MANIFEST}": b"{}"})
    with pytest.raises(BundleError, match=r"a folder toy\.stts with one; a bundle's files lie at the top"):
        locate_bundle("me/nested")


def test_half_a_bundle_in_the_cache_is_told_where_the_hub_is_not_asked(hub, monkeypatch):
    (locate_bundle("me/toy") / "weights" / "decoder.bin").unlink()
    go_online(monkeypatch, False)
    with pytest.raises(HubError, match=r"only a part of me/toy .*: weights/decoder\.bin is missing"):
        locate_bundle("me/toy")
    go_online(monkeypatch)
    open_bundle(locate_bundle("me/toy"), check=True)


def test_a_manifest_that_names_files_elsewhere_fetches_none_of_them(hub):
    manifest = dataclasses.replace(TOY_MANIFEST, files=(FileEntry("../../secret", 1, "0" * 64),))
    hub.publish("me/evil", {MANIFEST: manifest_bytes(manifest)})
    with pytest.raises(HubError, match=r"me/evil lacks \.\./\.\./secret"):
        locate_bundle("me/evil")


def shared(folder, name, digest="ab" + "0" * 62):
    """Let a snapshot's blob be a link into the store that repositories share, as the library does with large files."""
    blob = folder / (folder / name).readlink()
    blob = blob.parent.resolve() / blob.name
    store = blob.parents[2] / "blobs" / digest[:2]
    store.mkdir(parents=True, exist_ok=True)
    blob.rename(store / digest)
    blob.symlink_to(os.path.relpath(store / digest, blob.parent))
    return blob


def test_blobs_that_repositories_share_are_followed_and_not_read_without_a_check(hub, monkeypatch):
    folder = locate_bundle("me/toy")
    blob = shared(folder, "decoder.onnx")
    assert blob.name == hashlib.sha256(FILES["decoder.onnx"]).hexdigest()
    open_bundle(folder, check=True)
    read = []
    monkeypatch.setattr("stts_runtime.bundle.open.sha256_of_file", lambda path: read.append(path.name) or "")
    with pytest.raises(BundleError, match=r"damaged: tokenizer\.json"):  # small ones are named by git, and are read
        open_bundle(folder)
    assert "decoder.onnx" not in read


@pytest.mark.parametrize("digest", ["notahash", "cd" + "0" * 62])
def test_a_blob_that_leads_anywhere_but_into_the_shared_store_is_refused(hub, tmp_path, digest):
    folder = locate_bundle("me/toy")
    blob = folder / (folder / "decoder.onnx").readlink()
    blob = blob.parent.resolve() / blob.name
    secret = tmp_path / "secrets" / digest
    secret.parent.mkdir()
    shutil.move(blob, secret)
    blob.symlink_to(secret)
    with pytest.raises(BundleError, match=r"unsafe: its file 'decoder\.onnx'"):
        open_bundle(folder)


@pytest.mark.parametrize("place", ["its name", "its folder"])
def test_nothing_is_built_into_the_cache_and_how_to_get_a_copy_is_said(hub, place):
    folder = locate_bundle("me/toy")
    before = sorted(folder.rglob("*"))
    said = r"built into its cache.*`stts-runtime pull me/toy.* -o toy\.stts`, then `stts-runtime build toy\.stts`"
    with pytest.raises(UsageError, match=said):
        build_engines("me/toy" if place == "its name" else folder)
    assert sorted(folder.rglob("*")) == before
    assert build_command(folder).startswith(f"`stts-runtime pull me/toy@{folder.name} ")


def test_a_command_is_said_as_a_shell_takes_it(tmp_path):
    assert build_command(tmp_path / "a b.stts") == f"`stts-runtime build '{tmp_path}/a b.stts'`"


def test_engines_that_are_wanted_and_absent_are_to_be_built_in_a_copy(hub):
    with pytest.raises(EngineError, match=r"no engines yet .*: run `stts-runtime pull me/toy@\w+ -o toy\.stts`, then"):
        find_engine_set(open_bundle(locate_bundle("me/toy")), "10.0", 87)


def test_a_pulled_bundle_is_a_folder_of_real_files_every_byte_checked(hub, tmp_path, capsys):
    assert main(["pull", "me/toy", "-o", str(tmp_path / "mine" / "toy.stts")]) == 0
    assert "every byte checked" in capsys.readouterr().out
    bundle = tmp_path / "mine" / "toy.stts"
    open_bundle(bundle, check=True)
    assert not any(path.is_symlink() for path in bundle.rglob("*"))
    assert [path.name for path in bundle.parent.iterdir()] == ["toy.stts"]


@pytest.mark.parametrize(
    ("name", "output", "said"),
    [
        ("me/toy", "there.stts", "exists: choose another name"),
        ("me/toy", "toy", "must end in \\.stts"),
        ("./toy", "toy.stts", "is no name on a hub"),
        ("toy", "toy.stts", "is no name on a hub"),
    ],
)
def test_what_cannot_be_pulled_is_refused_before_the_hub_is_asked(hub, tmp_path, name, output, said):
    (tmp_path / "there.stts").mkdir()
    with pytest.raises(UsageError, match=said):
        pull(name, tmp_path / output)
    assert hub.asked == []


def test_a_damaged_bundle_is_not_pulled_and_nothing_is_left(hub, tmp_path):
    files = hub.repositories["me/toy"].commits[hub.repositories["me/toy"].branches["main"]]
    hub.publish("me/toy", {**files, "tokenizer.json": b"[]"})
    with pytest.raises(BundleError, match=r"damaged: tokenizer\.json"):
        pull("me/toy", tmp_path / "out" / "toy.stts")
    assert not (tmp_path / "out").exists() or list((tmp_path / "out").iterdir()) == []


def test_a_bundle_on_a_hub_answers_like_the_bundle(monkeypatch, tmp_path, toy_bundle):
    with stand_in_hub() as hub:
        use_hub(monkeypatch, hub.address, tmp_path / "cache")
        hub.publish("me/asked", toy_bundle("ffd"))
        with load("me/asked") as there, load(toy_bundle("ffd")) as here:
            answers = [one.ask(toy_frames(3), "What happens?", max_tokens=6) for one in (there, here)]
            weights = locate_bundle("me/asked")
        assert answers[0] == answers[1]
        for name in (path.relative_to(weights).as_posix() for path in sorted(weights.rglob("weights/*.bin"))):
            shared(weights / "weights", name.removeprefix("weights/"), hashlib.sha256(name.encode()).hexdigest())
        with load("me/asked") as there:
            assert there.ask(toy_frames(3), "What happens?", max_tokens=6) == answers[0]
