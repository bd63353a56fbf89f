import dataclasses
import hashlib
import json
import os
import shutil
import time

import pytest
from reference.toy_manifest import TOY_MANIFEST, TOY_SPEC

from stts_runtime.bundle.manifest import OLDEST_SCHEMA, SCHEMA_VERSION, FileEntry
from stts_runtime.bundle.open import (
    BUILD_LOCK,
    MANIFEST,
    check_unchanged,
    manifest_bytes,
    open_bundle,
    read_manifest,
    sha256_of_file,
    staging_path,
)
from stts_runtime.bundle.plain import from_plain, to_plain
from stts_runtime.errors import BundleError, UsageError


FILES = {"decoder.onnx": b"graph", "weights/decoder.bin": bytes(range(256)) * 40, "tokenizer.json": b"{}", "empty": b""}


@pytest.mark.parametrize(
    ("path", "error", "said"),
    [
        (3, UsageError, "the bundle's path is a int"),
        (None, UsageError, "the bundle's path is a NoneType"),
        ("x" * 5000, BundleError, "it cannot be looked at: File name too long"),
        ("a\0b", BundleError, "no bundle at"),
    ],
    ids=["a number", "nothing", "a long name", "a zero byte"],
)
def test_a_path_that_can_be_none_is_refused(path, error, said):
    with pytest.raises(error, match=said):
        open_bundle(path)


def store(root, manifest):
    (root / MANIFEST).write_bytes(manifest_bytes(manifest))


def store_data(root, data):
    """Write any data as a manifest whose digest is right."""

    def canonical(data):
        return (json.dumps(data, sort_keys=True, indent=2) + "\n").encode()

    (root / MANIFEST).write_bytes(canonical({**data, "digest": hashlib.sha256(canonical(data)).hexdigest()}))


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "toy.stts"
    for name, content in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    entries = tuple(FileEntry(name, len(content), sha256_of_file(root / name)) for name, content in FILES.items())
    store(root, dataclasses.replace(TOY_MANIFEST, files=entries))
    return root


def with_file(root, name, size=5):
    manifest = read_manifest(root / MANIFEST)
    store(root, dataclasses.replace(manifest, files=(*manifest.files, FileEntry(name, size, "0" * 64))))


def test_a_whole_bundle_opens_and_checks(root):
    seen = []
    bundle = open_bundle(root, check=True, on_progress=lambda stage, share: seen.append((stage, share)))
    assert bundle.manifest.graphs["decoder"].spec == TOY_SPEC
    assert bundle.file("weights/decoder.bin").read_bytes() == FILES["weights/decoder.bin"]
    assert seen[-1] == ("check", 1.0)
    assert [share for _, share in seen] == sorted(share for _, share in seen)


def test_a_bundle_opens_in_milliseconds(root):
    open_bundle(root)
    durations = []
    for _ in range(5):
        start = time.perf_counter()
        open_bundle(root)
        durations.append(time.perf_counter() - start)
    assert min(durations) < 0.02


def test_the_same_manifest_gives_the_same_bytes_and_survives_the_round_trip(root):
    content = (root / MANIFEST).read_bytes()
    manifest = read_manifest(root / MANIFEST)
    assert manifest_bytes(manifest) == content
    assert manifest == dataclasses.replace(TOY_MANIFEST, files=manifest.files)


def test_every_flipped_byte_of_the_manifest_is_found_on_open(root):
    whole = (root / MANIFEST).read_bytes()
    digest_at = whole.index(b'"digest": "') + 11
    whitespace = [position for position, byte in enumerate(whole) if byte in b" \n"]
    positions = {*range(0, len(whole), 7), *whitespace[::5], *range(digest_at - 3, digest_at + 66), len(whole) - 1}
    for position in sorted(positions):
        for bits in (0x01, 0x20, 0x80):
            flipped = bytearray(whole)
            flipped[position] ^= bits
            (root / MANIFEST).write_bytes(flipped)
            with pytest.raises(BundleError):
                open_bundle(root)


@pytest.mark.parametrize("added", [b"\n", b" ", b"\x00"])
def test_bytes_added_to_the_manifest_are_found(root, added):
    with (root / MANIFEST).open("ab") as file:
        file.write(added)
    with pytest.raises(BundleError, match="damaged"):
        open_bundle(root)


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"3", b'"digest"', b"null", b"{}", b"[" * 100_000, b'{"a": NaN}', b"\xff\xfe", b'[["digest", 1]]'],
)
def test_a_manifest_that_is_something_else_is_damaged(root, content):
    (root / MANIFEST).write_bytes(content)
    with pytest.raises(BundleError, match="damaged"):
        open_bundle(root)


@pytest.mark.parametrize("name", [name for name in FILES if name != "empty"])
@pytest.mark.parametrize("place", [0.0, 0.5, 1.0])
def test_a_flipped_byte_of_any_file_is_found_by_the_check(root, name, place):
    content = bytearray(FILES[name])
    content[round(place * (len(content) - 1))] ^= 1
    (root / name).write_bytes(content)
    open_bundle(root)
    with pytest.raises(BundleError, match=f"damaged: {name}.*Copy or build"):
        open_bundle(root, check=True)


def test_a_wrong_size_or_a_missing_file_is_found_on_open(root):
    (root / "decoder.onnx").write_bytes(b"grap")
    (root / "tokenizer.json").unlink()
    with pytest.raises(
        BundleError, match=r"2 files incomplete: decoder.onnx \(wanted 5 bytes, got 4\), tokenizer.json"
    ):
        open_bundle(root)


def test_a_file_that_the_manifest_does_not_list_is_found_by_the_check(root):
    (root / "weights" / "more.bin").write_bytes(b"")
    with pytest.raises(BundleError, match=r"not listed in its manifest: weights/more.bin"):
        open_bundle(root, check=True)


def test_a_newer_schema_is_refused_before_its_entries_are_read(root):
    store_data(root, {"schema_version": SCHEMA_VERSION + 4, "something": "new"})
    with pytest.raises(BundleError, match=r"newer stts-export \(schema 14; .* reads 10\): upgrade stts-runtime"):
        open_bundle(root)


def test_the_schemas_before_are_still_read(root):
    data = json.loads((root / MANIFEST).read_bytes())
    del data["digest"]
    del data["grid"]["resampling"]
    for name in ("feature_sets", "causal", "rope_axes", "max_positions"):
        del data["decoder"][name]
    store_data(root, {**data, "schema_version": 8})
    before = open_bundle(root).manifest
    assert (before.grid.resampling, before.decoder) == ("bilinear", TOY_MANIFEST.decoder)
    del data["engine"]["kv_cache"]
    store_data(root, {**data, "schema_version": 9})
    assert open_bundle(root).manifest.engine.kv_cache == "float"
    for name in ("weights", "tower_weights", "keep_float"):
        del data["engine"][name]
    store_data(root, {**data, "schema_version": 5})
    assert open_bundle(root).manifest.engine.weights == "float"
    del data["engine"]["ops"]
    store_data(root, {**data, "schema_version": 4})
    assert open_bundle(root).manifest.engine.ops == "portable"
    del data["pruning"]["trained_fractions"]
    store_data(root, {**data, "schema_version": OLDEST_SCHEMA})
    manifest = open_bundle(root).manifest
    assert (manifest.schema_version, manifest.pruning.trained_fractions, manifest.engine.ops) == (3, None, "portable")


@pytest.mark.parametrize("version", [0, -1, 2, "1", 1.0, True, None])
def test_a_schema_that_never_was_is_refused(root, version):
    store_data(root, {"schema_version": version})
    with pytest.raises(BundleError, match="older stts-export"):
        open_bundle(root)


def test_an_ill_typed_entry_is_named_with_its_whole_path(root):
    data = json.loads((root / MANIFEST).read_bytes())
    del data["digest"]
    data["graphs"]["decoder"]["spec"]["dims"][1]["minimum"] = "3"
    store_data(root, data)
    where = r"manifest.json: graphs.decoder.spec.dims\[1\].minimum: wanted a whole number, got '3'"
    with pytest.raises(BundleError, match=where):
        open_bundle(root)


@pytest.mark.parametrize(
    "name", ["../outside", "/etc/passwd", "weights/../../outside", "a\\b", "C:/a", "", ".", "./empty", "a//b", "a\0b"]
)
def test_a_path_that_leaves_the_bundle_is_refused(root, name):
    (root.parent / "outside").write_bytes(b"12345")
    with_file(root, name)
    with pytest.raises(BundleError, match="unsafe"):
        open_bundle(root)


def test_a_link_that_leaves_the_bundle_is_refused(root):
    (root.parent / "outside").mkdir()
    (root.parent / "outside" / "secret").write_bytes(b"12345")
    (root / "link").symlink_to(root.parent / "outside" / "secret")
    (root / "folder").symlink_to(root.parent / "outside")
    for name in ("link", "folder/secret"):
        with_file(root, name)
        with pytest.raises(BundleError, match="unsafe"):
            open_bundle(root)


def test_a_manifest_that_is_a_link_out_of_the_bundle_is_refused(root):
    (root / MANIFEST).rename(root.parent / MANIFEST)
    (root / MANIFEST).symlink_to(root.parent / MANIFEST)
    with pytest.raises(BundleError, match="unsafe"):
        open_bundle(root)


def in_a_hub(root, name_of=lambda name: hashlib.sha1(name.encode()).hexdigest()):
    """Return the bundle as a hub's cache leaves it: each file a link to a blob beside the snapshots."""
    repository = root.parent / "models--me--toy"
    (repository / "blobs").mkdir(parents=True)
    snapshot = repository / "snapshots" / "abc" / root.name
    for name in (MANIFEST, *FILES):
        blob, link = repository / "blobs" / name_of(name), snapshot / name
        (root / name).rename(blob)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    return snapshot


def test_a_bundle_in_a_hubs_cache_opens_and_its_blobs_are_held_to_the_manifest(root):
    snapshot = in_a_hub(root)
    bundle = open_bundle(snapshot)
    assert bundle.file("decoder.onnx").read_bytes() == FILES["decoder.onnx"]
    open_bundle(snapshot, check=True)
    (snapshot / "decoder.onnx").write_bytes(b"grapH")
    for check in (False, True):
        with pytest.raises(BundleError, match=r"damaged: decoder\.onnx"):
            open_bundle(snapshot, check=check)


def test_a_blob_named_by_its_sha256_is_not_read_without_a_check(root):
    name_of = {MANIFEST: "manifest"} | {
        name: hashlib.sha256(name.encode() + data).hexdigest() for name, data in FILES.items()
    }
    manifest = read_manifest(root / MANIFEST)
    entries = tuple(dataclasses.replace(entry, sha256=name_of[entry.path]) for entry in manifest.files)
    store(root, dataclasses.replace(manifest, files=entries))
    snapshot = in_a_hub(root, name_of.get)
    open_bundle(snapshot)
    with pytest.raises(BundleError, match="damaged"):
        open_bundle(snapshot, check=True)


@pytest.mark.parametrize("place", ["elsewhere/blobs", "models--me--toy/blobs/deeper", "models--me--toy/secrets"])
def test_a_link_out_of_a_snapshot_to_anything_but_its_blobs_is_refused(root, place):
    snapshot = in_a_hub(root)
    secret = root.parent / place / "secret"
    secret.parent.mkdir(parents=True)
    secret.write_bytes(FILES["decoder.onnx"])
    (snapshot / "decoder.onnx").unlink()
    (snapshot / "decoder.onnx").symlink_to(secret)
    with pytest.raises(BundleError, match=rf"unsafe: its file 'decoder\.onnx' .*cp -rL {snapshot} "):
        open_bundle(snapshot)


@pytest.mark.parametrize("name", [MANIFEST, "decoder.onnx"])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_pipe_or_a_folder_in_the_place_of_a_file_is_refused_and_not_waited_for(root, name, make):
    (root / name).unlink()
    make(root / name)
    with pytest.raises(BundleError, match=r"not a (regular )?file|Is a directory"):
        open_bundle(root)


def test_a_bundle_that_was_replaced_or_removed_since_it_was_opened_is_told(root, tmp_path):
    bundle = open_bundle(root)
    check_unchanged(bundle)
    (tmp_path / "latest.stts").symlink_to(root)
    latest = open_bundle(tmp_path / "latest.stts")
    (tmp_path / "latest.stts").unlink()
    check_unchanged(latest)
    store(root, dataclasses.replace(bundle.manifest, name="another"))
    with pytest.raises(BundleError, match="load it again"):
        check_unchanged(bundle)
    shutil.rmtree(root)
    with pytest.raises(BundleError, match="load it again"):
        check_unchanged(bundle)


def test_a_bundle_opened_by_a_relative_path_stays_the_same_in_another_directory(root, monkeypatch):
    monkeypatch.chdir(root.parent)
    bundle = open_bundle(root.name)
    monkeypatch.chdir("/")
    assert bundle.path == root
    check_unchanged(bundle)


def test_a_bundle_may_itself_be_reached_through_a_link(root):
    (root.parent / "latest.stts").symlink_to(root)
    open_bundle(root.parent / "latest.stts", check=True)


def test_a_listed_directory_or_pipe_is_not_a_file(root):
    os.mkfifo(root / "pipe")
    with_file(root, "pipe", size=0)
    with pytest.raises(BundleError, match=r"pipe \(not a file\)"):
        open_bundle(root, check=True)


def test_files_that_are_used_must_be_listed_and_listed_once(root):
    manifest = read_manifest(root / MANIFEST)
    store(root, dataclasses.replace(manifest, tokenizer="other.json"))
    with pytest.raises(BundleError, match=r"tokenizer: 'other\.json' is not among"):
        open_bundle(root)
    store(root, dataclasses.replace(manifest, tokenizer=None))
    open_bundle(root)
    store(root, dataclasses.replace(manifest, files=manifest.files * 2))
    with pytest.raises(BundleError, match="listed twice"):
        open_bundle(root)


def test_what_is_no_bundle_is_told_apart(root, tmp_path):
    with pytest.raises(BundleError, match="nothing is there"):
        open_bundle(tmp_path / "missing.stts")
    with pytest.raises(
        BundleError, match=r"nothing is there. `stts-export build --model MODEL -o '.*a b\.stts'` writes"
    ):
        open_bundle(tmp_path / "a b")
    (tmp_path / "near.stts").mkdir()
    with pytest.raises(BundleError, match=r"nothing is there. Did you mean .*near\.stts\?"):
        open_bundle(tmp_path / "near")
    with pytest.raises(BundleError, match="is a file"):
        open_bundle(root / MANIFEST)
    with pytest.raises(BundleError, match=r"has no manifest.json"):
        open_bundle(tmp_path)
    building = staging_path(tmp_path / "other.stts")
    building.mkdir()
    (building / BUILD_LOCK).write_text("1\n")
    with pytest.raises(BundleError, match="half-written"):
        open_bundle(building)
    with pytest.raises(BundleError, match="running or was killed"):
        open_bundle(tmp_path / "other.stts")


@dataclasses.dataclass(frozen=True)
class Leaf:
    share: float
    sides: tuple[int, int] = (1, 2)
    name: str | None = None


@dataclasses.dataclass(frozen=True)
class Tree:
    leaves: dict[str, Leaf]
    best: Leaf | None
    sizes: tuple[int | str, ...]
    free: object = None


def test_plain_data_becomes_a_dataclass_and_back():
    tree = Tree({"a": Leaf(0.5, (3, 4), "x")}, None, (1, "T"), {"k": [1]})
    assert from_plain(Tree, to_plain(tree), "here") == tree


def test_defaults_may_be_left_out_and_whole_numbers_serve_as_numbers():
    leaf = from_plain(Leaf, {"share": 1}, "here")
    assert leaf == Leaf(1.0)
    assert type(leaf.share) is float


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"shar": 1.0}, "here: shar: unknown key; did you mean 'share'"),
        ({"share": 1.0, "zzz": 0}, "here: zzz: unknown key; known: share, sides, name"),
        ({"share": 1.0, "name_of_it": "x"}, "here: name_of_it: unknown key; did you mean 'name'"),
        ({}, "here: share: missing; wanted a number"),
        ({"share": True}, "here: share: wanted a number, got True"),
        ({"share": 1.0, "sides": [1, 2, 3]}, "here: sides: wanted a list of 2, got 3"),
        ({"share": 1.0, "sides": [1, 2.0]}, r"here: sides\[1\]: wanted a whole number, got 2.0"),
        ({"share": 1.0, "sides": {"a": 1}}, "here: sides: wanted a list of 2, got keys and values"),
        ({"share": 1.0, "name": 3}, r"here: name: wanted text or nothing \(null\), got 3"),
        ([1], r"here: wanted keys and values \(share, sides, name\), got a list"),
    ],
)
def test_what_does_not_fit_is_named(data, message):
    with pytest.raises(UsageError, match=message):
        from_plain(Leaf, data, "here", UsageError)


def test_nested_places_are_named_through_dictionaries_and_options():
    with pytest.raises(BundleError, match=r"here: leaves\.a\.share: missing"):
        from_plain(Tree, {"leaves": {"a": {}}, "best": None, "sizes": []}, "here")
    with pytest.raises(BundleError, match=r"here: best\.share: missing"):
        from_plain(Tree, {"leaves": {}, "best": {}, "sizes": []}, "here")
    with pytest.raises(BundleError, match=r"here: sizes\[0\]: wanted a whole number or text, got 0.5"):
        from_plain(Tree, {"leaves": {}, "best": None, "sizes": [0.5]}, "here")
    with pytest.raises(BundleError, match="here: sizes: wanted a list, each item a whole number or text, got 3"):
        from_plain(Tree, {"leaves": {}, "best": None, "sizes": 3}, "here")


def test_a_list_of_records_is_read_like_one():
    assert from_plain(tuple[Leaf, ...], [{"share": 1}, {"share": 2.0}], "here") == (Leaf(1.0), Leaf(2.0))
    with pytest.raises(BundleError, match=r"here: \[1\]\.share: missing"):
        from_plain(tuple[Leaf, ...], [{"share": 1}, {}], "here")
    with pytest.raises(BundleError, match=r"wanted a list, each item keys and values \(share, sides, name\), got 3"):
        from_plain(tuple[Leaf, ...], 3, "here")


def test_keys_that_are_read_elsewhere_lie_beside_a_records_own_and_records_stay():
    made = Leaf(0.5)
    data = {"leaves": {}, "best": made, "sizes": [], "colour": 3}
    assert from_plain(Tree, data, "here", beside=("colour",)).best is made
    with pytest.raises(BundleError, match="here: color: unknown key; did you mean 'colour'"):
        from_plain(Tree, {**data, "color": 3}, "here", beside=("colour",))
    with pytest.raises(BundleError, match=r"here: leaves\.a\.colour: unknown key; known: share"):
        from_plain(Tree, {**data, "leaves": {"a": {"share": 1, "colour": 3}}}, "here", beside=("colour",))


def test_a_value_without_a_plain_form_is_a_bug_and_says_so():
    with pytest.raises(TypeError, match="no plain form"):
        to_plain({"a": object()})
