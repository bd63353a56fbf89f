import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
from collections import namedtuple

import pytest
from reference.toy_manifest import TOY_MANIFEST

from stts_export.bundle.write import write_manifest, writing_bundle
from stts_export.errors import DiskError
from stts_runtime.bundle.open import BUILD_LOCK, MANIFEST, open_bundle, staging_path
from stts_runtime.errors import BundleError, UsageError


Usage = namedtuple("Usage", "total used free")


def fill(staging, graph=b"graph"):
    (staging / "weights").mkdir()
    (staging / "weights" / "decoder.bin").write_bytes(b"weights")
    (staging / "decoder.onnx").write_bytes(graph)
    (staging / "tokenizer.json").write_bytes(b"{}")
    write_manifest(staging, TOY_MANIFEST)


def build(destination, graph=b"graph", overwrite=False):
    with writing_bundle(destination, 100, overwrite) as staging:
        fill(staging, graph)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def contents(root):
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def destination(tmp_path):
    return tmp_path / "toy.stts"


def test_a_finished_build_is_a_whole_bundle_and_leaves_nothing_beside_it(destination, tmp_path):
    seen = []
    with writing_bundle(destination, 100) as staging:
        assert staging == staging_path(destination)
        fill(staging)
        manifest = write_manifest(staging, TOY_MANIFEST, lambda stage, share: seen.append((stage, share)))
        assert not destination.exists()
    bundle = open_bundle(destination, check=True)
    assert bundle.manifest == manifest
    assert [entry.path for entry in manifest.files] == ["decoder.onnx", "tokenizer.json", "weights/decoder.bin"]
    assert seen[-1] == ("digest", 1.0)
    assert names(tmp_path) == ["toy.stts"]
    assert not (destination / BUILD_LOCK).exists()


def test_the_same_inputs_give_the_same_bytes(tmp_path):
    build(tmp_path / "one.stts")
    build(tmp_path / "two.stts")
    assert contents(tmp_path / "one.stts") == contents(tmp_path / "two.stts")


def test_a_manifest_may_be_written_again_after_a_report_was_added(destination):
    with writing_bundle(destination, 100) as staging:
        fill(staging)
        (staging / "report.json").write_bytes(b"{}")
        write_manifest(staging, TOY_MANIFEST)
    open_bundle(destination, check=True)


def test_a_manifest_that_names_a_missing_graph_is_not_published(destination, tmp_path):
    def forget_the_graph():
        with writing_bundle(destination, 100) as staging:
            (staging / "tokenizer.json").write_bytes(b"{}")
            write_manifest(staging, TOY_MANIFEST)

    with pytest.raises(BundleError, match=r"graphs\.decoder\.file"):
        forget_the_graph()
    assert names(tmp_path) == []


def fail_with(destination, failure, overwrite=False):
    with writing_bundle(destination, 100, overwrite) as staging:
        fill(staging)
        raise failure


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), RuntimeError("a bug"), SystemExit(3)])
def test_a_build_that_fails_leaves_nothing(destination, tmp_path, failure):
    with pytest.raises(type(failure)):
        fail_with(destination, failure)
    assert names(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_terminated_build_leaves_nothing_and_the_signal_is_given_back(destination, tmp_path, number):
    def terminate():
        with writing_bundle(destination, 100):
            os.kill(os.getpid(), number)

    inherited = signal.signal(number, signal.SIG_DFL)  # a test run under nohup ignores SIGHUP
    try:
        with pytest.raises(SystemExit) as caught:
            terminate()
        assert caught.value.code == 128 + number
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, inherited)
    assert names(tmp_path) == []


def test_what_a_killed_build_left_is_cleared_by_the_next(destination, tmp_path):
    script = textwrap.dedent("""
        import os, signal, sys
        from pathlib import Path
        from stts_export.bundle.write import writing_bundle
        with writing_bundle(Path(sys.argv[1]), 100) as staging:
            (staging / "left.over").write_bytes(b"half")
            os.kill(os.getpid(), signal.SIGKILL)
    """)
    done = subprocess.run([sys.executable, "-c", script, destination], check=False)
    assert done.returncode == -signal.SIGKILL
    assert (staging_path(destination) / "left.over").exists()
    with pytest.raises(BundleError, match="running or was killed"):
        open_bundle(destination)
    build(destination)
    open_bundle(destination, check=True)
    assert names(tmp_path) == ["toy.stts"]


def test_two_builds_do_not_write_the_same_bundle(destination):
    with writing_bundle(destination, 100) as staging:
        fill(staging)
        with pytest.raises(UsageError, match=rf"another build is at work .*process {os.getpid()}"):
            build(destination)
        assert (staging / "decoder.onnx").exists()
    open_bundle(destination, check=True)


def test_a_bundle_is_replaced_only_when_asked(destination, tmp_path):
    build(destination)
    with pytest.raises(UsageError, match="--overwrite"):
        build(destination)
    build(destination, b"another graph", overwrite=True)
    assert open_bundle(destination, check=True).file("decoder.onnx").read_bytes() == b"another graph"
    assert names(tmp_path) == ["toy.stts"]


def test_the_old_bundle_stays_when_its_replacement_fails(destination, tmp_path):
    build(destination)
    before = contents(destination)
    with pytest.raises(KeyboardInterrupt):
        fail_with(destination, KeyboardInterrupt(), overwrite=True)
    assert contents(destination) == before
    assert names(tmp_path) == ["toy.stts"]


def test_a_build_killed_while_it_swapped_the_bundles_gives_the_old_one_back(destination, tmp_path):
    build(destination)
    before = contents(destination)
    destination.rename(tmp_path / ".toy.stts.replaced")
    with pytest.raises(UsageError, match="exists"):
        build(destination)
    assert contents(destination) == before
    shutil.copytree(destination, tmp_path / ".toy.stts.replaced")
    build(destination, overwrite=True)
    assert names(tmp_path) == ["toy.stts"]


def test_a_damaged_bundle_may_be_replaced(destination):
    build(destination)
    with (destination / MANIFEST).open("ab") as file:
        file.write(b"!")
    build(destination, overwrite=True)
    open_bundle(destination, check=True)


def test_what_is_not_a_bundle_is_never_overwritten(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "one.png").write_bytes(b"dear")
    (photos / MANIFEST).write_bytes(b'{"name": "an album"}')
    for precious in (photos, photos / "one.png"):
        with pytest.raises(UsageError, match="is not a bundle"):
            build(precious, overwrite=True)
    assert names(photos) == [MANIFEST, "one.png"]
    assert names(tmp_path) == ["photos"]


def test_a_link_to_a_bundle_is_followed_and_stays_a_link(tmp_path):
    build(tmp_path / "real.stts")
    (tmp_path / "latest.stts").symlink_to("real.stts")
    build(tmp_path / "latest.stts", b"another graph", overwrite=True)
    assert (tmp_path / "latest.stts").is_symlink()
    assert (tmp_path / "real.stts" / "decoder.onnx").read_bytes() == b"another graph"


@pytest.mark.parametrize("name", [".toy.stts.building", ".toy.stts.replaced", ".toy.stts.building/.building.lock"])
@pytest.mark.parametrize("leads_to", ["folder", "file", "nothing"])
def test_a_link_under_a_builds_own_names_is_refused_and_never_followed(destination, tmp_path, name, leads_to):
    build(destination)
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("dear")
    link = tmp_path / name
    link.parent.mkdir(exist_ok=True)
    link.symlink_to({"folder": precious, "file": precious / "file", "nothing": precious / "nothing"}[leads_to])
    before = contents(tmp_path)
    with pytest.raises(UsageError, match=r"nothing was touched|not a bundle"):
        build(destination, overwrite=True)
    assert contents(tmp_path) == before
    assert names(precious) == ["file"]
    assert link.is_symlink()


def test_a_link_where_the_old_bundle_is_removed_goes_and_what_it_leads_to_stays(destination, tmp_path):
    build(destination)
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("dear")
    (tmp_path / ".toy.stts.replaced.trash").symlink_to(tmp_path / "precious")
    build(destination, overwrite=True)
    assert names(tmp_path) == ["precious", "toy.stts"]
    assert names(tmp_path / "precious") == ["file"]


def test_a_lock_that_is_a_pipe_or_another_name_of_a_file_is_refused(destination, tmp_path):
    (tmp_path / "file").write_text("dear")
    lock = staging_path(destination) / BUILD_LOCK
    lock.parent.mkdir()
    for place in (lambda: lock.hardlink_to(tmp_path / "file"), lambda: os.mkfifo(lock), lock.mkdir):
        place()
        with pytest.raises(UsageError, match=r"is no lock, .* nothing was touched"):
            build(destination)
        lock.rmdir() if lock.is_dir() else lock.unlink()
    assert (tmp_path / "file").read_text() == "dear"


@pytest.mark.parametrize("name", [".toy.stts.building", ".toy.stts.replaced"])
def test_a_folder_that_no_build_made_is_not_emptied(destination, tmp_path, name):
    build(destination)
    (tmp_path / name).mkdir()
    (tmp_path / name / "file").write_text("dear")
    with pytest.raises(UsageError, match=r"is no build's|is not a bundle"):
        build(destination, overwrite=True)
    assert (tmp_path / name / "file").read_text() == "dear"


def test_missing_parents_are_made(tmp_path):
    build(tmp_path / "a" / "b" / "toy.stts")
    open_bundle(tmp_path / "a" / "b" / "toy.stts", check=True)


def test_too_little_room_is_found_before_anything_is_written(destination, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(2**40, 2**40, 3 * 2**29))
    with (
        pytest.raises(DiskError, match=r"needed 16\.0 GiB, free 1\.5 GiB in .*another disk"),
        writing_bundle(destination, 16 * 2**30),
    ):
        pytest.fail("the block must not run")
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "the disk quota is used up"),
        (errno.EROFS, "the disk is read-only"),
    ],
)
def test_a_disk_that_fills_up_during_the_build_is_named_and_nothing_is_left(destination, tmp_path, number, message):
    with pytest.raises(DiskError, match=rf"{message} .*needed about \d+ bytes in all, free now .*Nothing half-written"):
        fail_with(destination, OSError(number, os.strerror(number)))
    assert names(tmp_path) == []


def test_a_truly_full_device_gives_a_disk_error(destination, tmp_path):
    def write_to_a_full_device():
        with writing_bundle(destination, 100), open("/dev/full", "wb") as file:  # noqa: PTH123
            file.write(b"bytes")

    with pytest.raises(DiskError, match="the disk is full"):
        write_to_a_full_device()
    assert names(tmp_path) == []


def test_other_errors_of_the_block_keep_their_kind(destination):
    with pytest.raises(FileNotFoundError):
        fail_with(destination, FileNotFoundError(errno.ENOENT, "no shard"))


def test_a_place_that_cannot_be_written_is_a_disk_error(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DiskError, match=r"cannot write in .*file"):
        build(tmp_path / "file" / "toy.stts")


@pytest.mark.parametrize("name", ["my notes.txt", "checkpoint/model.safetensors", "caf\u00e9"])
def test_what_no_build_wrote_is_not_overwritten_with_a_bundle(destination, name):
    build(destination)
    precious = destination / name
    precious.parent.mkdir(exist_ok=True)
    precious.write_bytes(b"precious")
    with pytest.raises(UsageError, match=r"which no build wrote and --overwrite would remove"):
        build(destination, b"another graph", overwrite=True)
    assert precious.read_bytes() == b"precious"
    assert (destination / "decoder.onnx").read_bytes() == b"graph"


def test_a_damaged_bundle_is_overwritten(destination):
    build(destination)
    (destination / MANIFEST).write_bytes(b'{"schema_version": 3')
    build(destination, b"another graph", overwrite=True)
    assert (destination / "decoder.onnx").read_bytes() == b"another graph"


def test_a_disk_too_full_for_the_lock_is_left_as_it_was(destination, tmp_path):
    pid = os.fork()
    if pid == 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        try:
            build(destination)
        except DiskError:
            os._exit(3)
        os._exit(4)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
    assert names(tmp_path) == []
