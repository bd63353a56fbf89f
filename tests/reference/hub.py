"""A stand-in of a model hub on this machine: what the hub's own library asks, answered from memory.

Repositories have commits, branches, gates and owners. Files ending as weights do are large ones, as on the real hub:
they are named by their SHA-256 and lie elsewhere, behind a redirection.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from huggingface_hub import constants


LARGE = (".safetensors", ".bin", ".onnx", ".npz")
TOKEN = "hf_let_me_in"


@dataclass
class StandInRepository:
    """What the stand-in has of a repository."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)  # commit -> files
    branches: dict[str, str] = field(default_factory=dict)  # branch or tag -> commit
    license: str | None = None  # of its card
    gated: bool = False  # open to whoever has the token
    private: bool = False  # not there for whoever has none

    def commit(self, files: dict[str, bytes], branch: str = "main") -> str:
        """Store files as a branch's newest commit, and return its hash."""
        content = repr((sorted(files.items()), len(self.commits)))
        commit = hashlib.sha1(content.encode()).hexdigest()
        self.commits[commit] = dict(files)
        self.branches[branch] = commit
        return commit


class StandInHub:
    """A hub at `address`; `repositories` may be changed while it answers."""

    def __init__(self) -> None:
        self.repositories: dict[str, StandInRepository] = {}
        self.blobs: dict[str, bytes] = {}  # SHA-256 -> what was uploaded
        self.asked: list[tuple[str, str]] = []  # methods and paths, as they came
        self.status: int | None = None  # to answer everything with, if any
        self.cut_after: int | None = None  # bytes of a large file after which the connection is closed, if any
        self.address = ""

    def publish(self, name: str, files: dict[str, bytes] | Path, branch: str = "main", **about: object) -> str:
        """Store a repository's files, or those of a folder, and return the commit."""
        if isinstance(files, Path):
            found = [path for path in files.rglob("*") if path.is_file()]
            files = {path.relative_to(files).as_posix(): path.read_bytes() for path in found}
        repository = self.repositories.setdefault(name, StandInRepository())
        for key, value in about.items():
            setattr(repository, key, value)
        return repository.commit(files, branch)

    def fetched(self) -> list[str]:
        """Return the names of the files whose bytes were asked for."""
        return sorted({path.split("/", 5)[5] for how, path in self.asked if how == "GET" and "/resolve/" in path})


def _handler(hub: StandInHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.0"  # a connection a request: none outlives the stand-in

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
            pass

        def send(self, status: int, body: bytes = b"", **headers: str) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def plain(self, data: object, status: int = 200) -> None:
            self.send(status, json.dumps(data).encode(), Content_Type="application/json")

        def body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            pieces = []
            while size := int(self.rfile.readline(), 16):
                pieces.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(pieces)

        def answer(self) -> None:
            url = urlsplit(self.path)
            parts = [unquote(part) for part in url.path.split("/")[1:]]
            body = self.body()
            hub.asked.append((self.command, url.path))
            if hub.status is not None:
                self.send(hub.status)
            elif parts[0] == "lfs":
                self.large(parts[1], body)
            elif parts[:2] == ["api", "validate-yaml"]:
                self.plain({"errors": [], "warnings": []})
            elif parts[:3] == ["api", "repos", "create"]:
                self.create(json.loads(body))
            elif parts[:2] == ["api", "models"]:
                self.api(f"{parts[2]}/{parts[3]}", parts[4:], body, parse_qs(url.query))
            elif len(parts) < 3:
                self.send(404)  # what the library asks beside files
            elif parts[2] == "resolve":
                self.file(f"{parts[0]}/{parts[1]}", parts[3], "/".join(parts[4:]))
            elif parts[1].endswith(".git"):
                self.batch(json.loads(body))
            else:
                self.send(404)

        do_GET = do_HEAD = do_POST = do_PUT = answer  # noqa: N815

        def has_token(self) -> bool:
            return self.headers.get("Authorization") == f"Bearer {TOKEN}"

        def found(self, name: str, revision: str) -> tuple[StandInRepository, str] | None:
            """Return a repository and a commit; None where it was refused."""
            repository = hub.repositories.get(name)
            if repository is None or (repository.private and not self.has_token()):
                self.send(404 if self.has_token() else 401, X_Error_Code="RepoNotFound")
                return None
            if repository.gated and not self.has_token():
                self.send(401 if "Authorization" not in self.headers else 403, X_Error_Code="GatedRepo")
                return None
            commit = repository.branches.get(revision, revision)
            if commit not in repository.commits:
                self.send(404, X_Error_Code="RevisionNotFound")
                return None
            return repository, commit

        def api(self, name: str, rest: list[str], body: bytes, query: dict[str, list[str]]) -> None:
            what, revision = (rest + ["info", "main"][len(rest) :])[:2] if rest else ("info", "main")
            if (found := self.found(name, revision)) is None:
                return
            repository, commit = found
            files = repository.commits[commit]
            if what in ("info", "revision"):
                card = None if repository.license is None else {"license": repository.license}
                about = {"siblings": [{"rfilename": file, "size": len(data)} for file, data in files.items()]}
                self.plain({"id": name, "sha": commit, "cardData": card, "private": repository.private, **about})
            elif what == "tree":
                self.plain([_entry(file, data) for file, data in files.items()])
            elif what == "preupload":
                asked = [file["path"] for file in json.loads(body)["files"]]
                modes = {file: "lfs" if file.endswith(LARGE) else "regular" for file in asked}
                self.plain({"files": [{"path": f, "uploadMode": modes[f], "shouldIgnore": False} for f in asked]})
            elif what == "commit":
                self.commit(repository, name, revision, dict(files), body)
            else:
                self.send(404)

        def commit(self, repository: StandInRepository, name: str, branch: str, files: dict, body: bytes) -> None:
            if not self.has_token():
                return self.send(403)
            for line in body.splitlines():
                key, value = (json.loads(line)[one] for one in ("key", "value"))
                if key == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif key == "lfsFile":
                    files[value["path"]] = hub.blobs[value["oid"]]
                elif key == "deletedFile":
                    del files[value["path"]]
            commit = repository.commit(files, branch)
            url = f"{hub.address}/{name}/commit/{commit}"
            return self.plain({"success": True, "commitOid": commit, "commitUrl": url, "hookOutput": ""})

        def create(self, asked: dict) -> None:
            name = f"{asked['organization']}/{asked['name']}"
            if not self.has_token():
                return self.send(401)
            if name in hub.repositories:
                return self.plain({"url": f"{hub.address}/{name}"}, 409)
            private = asked.get("visibility") == "private" or bool(asked.get("private"))
            hub.publish(name, {".gitattributes": b"*.onnx filter=lfs\n"}, private=private)
            return self.plain({"url": f"{hub.address}/{name}"})

        def file(self, name: str, revision: str, path: str) -> None:
            if (found := self.found(name, revision)) is None:
                return None
            repository, commit = found
            data = repository.commits[commit].get(path)
            if data is None:
                return self.send(404, X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
            if not path.endswith(LARGE):
                return self.send(200, data, ETag=f'"{_git_sha(data)}"', X_Repo_Commit=commit)
            digest = hashlib.sha256(data).hexdigest()
            hub.blobs[digest] = data
            linked = {"X-Linked-ETag": f'"{digest}"', "X-Linked-Size": str(len(data))}
            # another host, as on the real hub: within one the library follows, and asks the target for a commit
            store = hub.address.replace("127.0.0.1", "localhost")
            return self.send(302, Location=f"{store}/lfs/{digest}", X_Repo_Commit=commit, **linked)

        def large(self, digest: str, body: bytes) -> None:
            if self.command == "PUT":
                hub.blobs[digest] = body
                return self.send(200)
            data = hub.blobs[digest]
            begin = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").split("-")[0])
            rest = data[begin:]
            if hub.cut_after is None or self.command == "HEAD":
                ranged = {"Content_Range": f"bytes {begin}-{len(data) - 1}/{len(data)}"} if begin else {}
                return self.send(206 if begin else 200, rest, ETag=f'"{digest}"', **ranged)
            self.send_response(200)
            self.send_header("Content-Length", str(len(rest)))
            self.end_headers()
            self.wfile.write(rest[: hub.cut_after])
            self.close_connection = True
            return None

        def batch(self, asked: dict) -> None:
            def entry(one: dict) -> dict:
                there = one["oid"] in hub.blobs
                actions = {} if there else {"actions": {"upload": {"href": f"{hub.address}/lfs/{one['oid']}"}}}
                return {"oid": one["oid"], "size": one["size"], **actions}

            self.plain({"transfer": "basic", "objects": [entry(one) for one in asked["objects"]]})

    return Handler


def _entry(path: str, data: bytes) -> dict[str, object]:
    large = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
    linked = {"lfs": large} if path.endswith(LARGE) else {}
    return {"type": "file", "path": path, "size": len(data), "oid": _git_sha(data), **linked}


def _git_sha(data: bytes) -> str:
    return hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()


@contextlib.contextmanager
def stand_in_hub() -> Iterator[StandInHub]:
    """Run a stand-in at a free port of this machine."""
    hub = StandInHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    server.daemon_threads = True
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def use_hub(monkeypatch: pytest.MonkeyPatch, address: str, cache: Path, token: str | None = None) -> None:
    """Let the hub's library ask at `address`, as HF_ENDPOINT, HF_HUB_CACHE and HF_TOKEN would."""
    monkeypatch.setattr(constants, "ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(cache / "no-token"))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    if token is not None:
        monkeypatch.setenv("HF_TOKEN", token)
    go_online(monkeypatch)


def go_online(monkeypatch: pytest.MonkeyPatch, online: bool = True) -> None:
    """Allow the library to ask, or not, as HF_HUB_OFFLINE would."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", not online)


def hub_environment(address: str, cache: Path) -> dict[str, str]:
    """Return the environment of a process that asks at `address`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    return {**kept, "HF_ENDPOINT": address, "HF_HOME": str(cache), "HF_HUB_OFFLINE": "0"}
