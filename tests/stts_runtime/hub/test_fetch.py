"""What is fetched and what is not, and every way in which a hub does not give what was asked for."""

import errno
import os
import re
import shutil
import subprocess
import sys
from collections import namedtuple

import pytest
from reference.hub import TOKEN, go_online, hub_environment, stand_in_hub, use_hub

from stts_runtime.errors import HubError, UsageError
from stts_runtime.hub.fetch import fetched, repository
from stts_runtime.hub.name import HubName


FILES = {"config.json": b"{}", "model.safetensors": b"x" * 3_000_000, "sub/model.safetensors": b"y", "README.md": b"hi"}
NAME = HubName("me/toy")


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with stand_in_hub() as hub:
        use_hub(monkeypatch, hub.address, tmp_path / "cache")
        hub.publish("me/toy", FILES, license="mit")
        yield hub


def test_only_the_files_that_are_wanted_are_fetched_and_once(hub):
    found = repository(NAME)
    assert (found.commit, found.license) == (hub.repositories["me/toy"].branches["main"], "mit")
    shares = []
    folder = fetched(found, ["config.json"], ["*.safetensors"], lambda stage, share: shares.append(share))
    assert folder.name == found.commit
    assert (folder / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    assert hub.fetched() == ["config.json"]  # the large one lies elsewhere
    assert sorted(path.name for path in folder.rglob("*")) == ["config.json", "model.safetensors"]
    assert shares[-1] == 1.0
    large = [path for how, path in hub.asked if how == "GET" and path.startswith("/lfs/")]
    fetched(repository(NAME), ["config.json"], ["*.safetensors"])
    assert [path for how, path in hub.asked if how == "GET" and path.startswith("/lfs/")] == large


def test_a_branch_and_a_commit_are_revisions(hub):
    first = hub.repositories["me/toy"].branches["main"]
    second = hub.publish("me/toy", {"config.json": b"[]"}, "v2")
    assert [repository(HubName("me/toy", revision)).commit for revision in (None, "v2", second, first)] == [
        first,
        second,
        second,
        first,
    ]
    assert (fetched(repository(HubName("me/toy", "v2")), ["config.json"]) / "config.json").read_bytes() == b"[]"


def test_an_unknown_name_says_where_was_looked_and_what_to_do(hub):
    with pytest.raises(HubError, match=r"has no model me/none .*without a token.*hf auth login.*no folder me/none"):
        repository(HubName("me/none"))


def test_a_private_repository_is_there_for_whoever_has_the_token(hub, monkeypatch):
    hub.repositories["me/toy"].private = True
    with pytest.raises(HubError, match="has no model me/toy that may be seen without a token"):
        repository(NAME)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert fetched(repository(NAME), ["config.json"]).is_dir()
    monkeypatch.setenv("HF_TOKEN", "hf_another")
    with pytest.raises(HubError, match="that the token found may see"):
        repository(NAME)


@pytest.mark.parametrize(("token", "said"), [(None, "Accept them at"), ("hf_another", "it is still closed: Accept")])
def test_a_gated_model_says_where_its_conditions_are_accepted(hub, monkeypatch, token, said):
    hub.repositories["me/toy"].gated = True
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(HubError, match=rf"me/toy is gated: .*{said}.* {re.escape(hub.address)}/me/toy"):
        repository(NAME)


def test_a_revision_that_is_gone_is_called_that(hub):
    with pytest.raises(HubError, match=r"me/toy has no revision 'v0', or no longer: .*/me/toy/tree/main"):
        repository(HubName("me/toy", "v0"))


def test_no_network_and_nothing_in_the_cache_is_one_message(hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubError, match=r"me/toy is not in the hub's cache .*http://127.0.0.1:9 cannot be reached"):
        repository(NAME)


@pytest.mark.parametrize("how", ["refused", "ill", "offline"])
def test_a_hub_that_is_not_asked_is_told_and_its_last_state_taken(hub, monkeypatch, how):
    commit = fetched(repository(NAME), ["config.json"]).name
    if how == "refused":
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    elif how == "ill":
        hub.status = 503
    else:
        go_online(monkeypatch, False)
    asked, notes = len(hub.asked), []
    found = repository(NAME, notes.append)
    assert (found.commit, found.is_cached) == (commit, True)
    assert (fetched(found, ["config.json"]) / "config.json").read_bytes() == b"{}"
    assert len(notes) == 1
    assert f"taken from the hub's cache, as it was at commit {commit}" in notes[0]
    assert how != "offline" or len(hub.asked) == asked


def test_what_an_interrupted_download_left_is_told_where_the_hub_is_not_asked(hub, monkeypatch):
    fetched(repository(NAME), ["config.json"])
    go_online(monkeypatch, False)
    for names, patterns in ((["model.safetensors"], []), ([], ["*.safetensors"])):
        with pytest.raises(HubError, match=r"only a part of me/toy .*without HF_HUB_OFFLINE, to fetch the rest"):
            fetched(repository(NAME), names, patterns)


def test_a_download_that_is_cut_says_so_and_the_next_goes_on_from_there(hub, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    hub.cut_after = 1_000
    with pytest.raises(HubError, match=r"could not be fetched whole.*run the same command again"):
        fetched(repository(NAME), ["model.safetensors"])
    hub.cut_after = None
    folder = fetched(repository(NAME), ["model.safetensors"])
    assert (folder / "model.safetensors").read_bytes() == FILES["model.safetensors"]


def test_a_file_that_the_repository_lacks_is_named(hub):
    with pytest.raises(HubError, match=r"me/toy lacks tokenizer\.json at commit"):
        fetched(repository(NAME), ["tokenizer.json"])


def test_a_disk_that_is_too_full_is_told_before_anything_is_fetched(hub, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 9, 1))
    with pytest.raises(HubError, match=r"too little disk to fetch me/toy: 3 MiB are needed.*HF_HUB_CACHE"):
        fetched(repository(NAME), ["model.safetensors"])
    assert not any(path.startswith("/lfs") for _, path in hub.asked)


def test_without_the_hubs_library_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UsageError, match=r"pip install 'stts-runtime\[hub\]'.*\./FOLDER"):
        repository(NAME)


def test_the_environment_says_where_the_hub_and_its_cache_are(hub, tmp_path):
    code = "from stts_runtime.hub.fetch import *; print(fetched(repository(HubName('me/toy')), ['config.json']))"
    command = [sys.executable, "-c", code]
    environment = hub_environment(hub.address, tmp_path / "home")
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.startswith(str(tmp_path / "home" / "hub" / "models--me--toy"))
    offline = {**environment, "HF_HUB_OFFLINE": "1"}
    asked = len(hub.asked)
    assert subprocess.run(command, env=offline, capture_output=True, text=True, timeout=120).stdout == done.stdout
    assert len(hub.asked) == asked


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
def test_a_cache_that_cannot_be_written_is_not_told_as_a_hub_that_stopped(hub, monkeypatch, number):
    import huggingface_hub

    def refuses(*arguments, **more):
        raise OSError(number, os.strerror(number), "/cache/blobs/1")

    found = repository(NAME)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuses)
    with pytest.raises(
        HubError, match=rf"cannot be fetched into .*{os.strerror(number)}; free some room there, or set"
    ):
        fetched(found, ["config.json"])
