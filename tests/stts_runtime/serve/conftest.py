"""A server of nano, and clips to ask it about."""

import subprocess
from dataclasses import replace

import pytest
from reference.once import once
from reference.serving import AskedClip, Served, asked_clips, serving
from reference.toy_bundle import toy_request

from stts_export.pipeline import build


@pytest.fixture(scope="session")
def clips(run_folder) -> list[AskedClip]:
    """Clips with questions."""
    return asked_clips(run_folder)


@pytest.fixture(scope="module")
def served(nano_bundle) -> Served:
    """A server with the usual limits, of this module's tests alone."""
    with serving(nano_bundle) as found:
        yield found


@pytest.fixture(scope="session")
def endless_bundle(run_folder, captured):
    """A bundle with random weights: its answers go on until they are cut, and are text at every token."""
    folder = run_folder / "endless"

    def make(path):
        folder.mkdir(exist_ok=True)
        build(replace(toy_request(folder, "ragged"), output=path, batch=4), capture=captured)

    return once(run_folder / "endless.stts", make)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """A certificate of example.org and its key; openssl makes them."""
    folder = tmp_path_factory.mktemp("tls")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=example.org"]
    names = ["-addext", "subjectAltName=DNS:example.org", "-keyout", folder / "key.pem", "-out", folder / "cert.pem"]
    subprocess.run([*command, *names], check=True, capture_output=True)
    return folder
