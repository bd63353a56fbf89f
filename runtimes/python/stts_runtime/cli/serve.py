"""`stts-runtime serve`."""

from __future__ import annotations

import argparse
import ipaddress
import ssl
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from stts_runtime.cli.command import BUNDLE, add_command, bundle_folder, note, path_or_name


if TYPE_CHECKING:
    from stts_runtime.serve.app import ServerSettings

EXAMPLES = """examples:
  stts-runtime serve nano.stts
  stts-runtime serve nano.stts --host 0.0.0.0 --keys keys.txt --name camera.example.org
  stts-runtime serve nano.stts --allow-folder /data/clips

then, from another terminal:
  curl http://127.0.0.1:8000/v1/models
"""

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    from stts_runtime.serve.limits import ServerLimits

    parser = add_command(commands, "serve", run, "Answer questions over HTTP, as OpenAI's API does.", EXAMPLES)
    option = parser.add_argument
    option("bundle", type=path_or_name, help=BUNDLE)
    option("--host", default="127.0.0.1", help="address to listen at (default: %(default)s, this machine alone)")
    option("--port", type=int, default=8000, help="port to listen at (default: %(default)s)")
    option("--model", help="what clients call the model (default: the bundle's name)")
    option("--keys", type=Path, metavar="FILE", help="keys of which a client needs one, one a line")
    option("--name", action="append", default=[], help="a name that clients reach the server by, beside its address")
    option("--allow-host", action="append", default=[], help="fetch clips by https from this host (default: from none)")
    option("--allow-folder", type=Path, metavar="DIR", help="open clips by file: addresses below DIR (default: none)")
    option("--tls-cert", type=Path, help="certificate, PEM; with --tls-key answers by https")
    option("--tls-key", type=Path, help="the certificate's key, PEM")
    option(
        "--stop-seconds",
        type=int,
        default=30,
        help="wait so long for running answers when told to end (default: %(default)s)",
    )
    limits = parser.add_argument_group("limits")
    for field in fields(ServerLimits):
        name = field.name.replace("_", "-")
        limits.add_argument(
            f"--{name}", type=int, default=field.default, help=f"{HELP[field.name]} (default: %(default)s)"
        )


HELP = {
    "body_mib": "largest request without an upload",
    "upload_mib": "largest upload, and room for all of them",
    "clip_seconds": "longest clip",
    "frame_megapixels": "largest frame of a clip",
    "decode_seconds": "time that reading a clip may take",
    "decode_mib": "memory that reading a clip may take",
    "request_seconds": "time from a request to its answer's end",
    "waiting": "requests that may wait",
    "answering": "answers made at once",
    "cache_mib": "memory for keys and values of all conversations",
    "seen_mib": "memory for features of clips seen before; 0 keeps none",
}


def run(arguments: argparse.Namespace) -> int:
    """Serve until told to end."""
    from stts_runtime.errors import UsageError

    try:
        from stts_runtime.serve.app import Server
        from stts_runtime.serve.listen import Loop, configured, listening, serve
    except ImportError as error:
        raise UsageError(f"serving needs {error.name}: pip install 'stts-runtime[serve]'") from None
    from stts_runtime.session import load

    settings = _settings(arguments)
    with listening(arguments.host, arguments.port) as listener, load(bundle_folder(arguments.bundle)) as session:
        note(f"opening {arguments.bundle} ...")
        session.tokenizer  # noqa: B018  a bundle without one is refused now
        session.open()
        for text in (*session.manifest.notes, *session.notes):
            note(f"note: {text}")
        server = Server(session, settings)
        config = configured(server.app, arguments.tls_cert, arguments.tls_key)
        try:
            config.load()  # asks for the password of a key that has one, before anyone is told to come
        except OSError as error:  # an EINVAL, mostly; all else that can be wrong with the key `_settings` has refused
            if arguments.tls_key is None:
                raise
            raise UsageError(
                f"--tls-key {arguments.tls_key} cannot be opened: its password was wrong, or could not be asked for "
                f"({error.strerror or error}); start again in a terminal, or give a key without one"
            ) from None
        scheme = "http" if arguments.tls_cert is None else "https"
        host = f"[{arguments.host}]" if ":" in arguments.host else arguments.host
        note(f"{settings.model} answers at {scheme}://{host}:{listener.getsockname()[1]}/v1, and shows itself at /")
        serve(Loop(config, server.end, arguments.stop_seconds), listener)
    note("ended")
    return 0


def _settings(arguments: argparse.Namespace) -> ServerSettings:
    from stts_runtime.bundle.locate import bundle_title
    from stts_runtime.errors import UsageError
    from stts_runtime.serve.addresses import Allowed, hosts_from
    from stts_runtime.serve.app import ServerSettings
    from stts_runtime.serve.keys import read_keys
    from stts_runtime.serve.limits import ServerLimits

    limits = ServerLimits(**{field.name: getattr(arguments, field.name) for field in fields(ServerLimits)})
    limits.check()
    if arguments.stop_seconds < 0:
        raise UsageError(f"--stop-seconds is {arguments.stop_seconds}, wanted at least 0")
    keys = () if arguments.keys is None else read_keys(arguments.keys)
    is_local = _is_local(arguments.host)
    if not is_local and not keys:
        raise UsageError(
            f"--host {arguments.host} is reached by others: give --keys FILE, so that not everyone is answered"
        )
    _check_certificate(arguments.tls_cert, arguments.tls_key)
    folder = arguments.allow_folder
    if folder is not None and not folder.is_dir():
        raise UsageError(f"--allow-folder {folder} is no folder: name one that is there")
    host = f"[{arguments.host}]" if ":" in arguments.host else arguments.host
    names = (*LOOPBACK, host.lower(), *(name.lower() for name in arguments.name))
    return ServerSettings(
        arguments.model or bundle_title(arguments.bundle),
        limits,
        keys,
        names if is_local or arguments.name else None,
        Allowed(folder, hosts_from(arguments.allow_host)),
    )


def _check_certificate(certificate: Path | None, key: Path | None) -> None:
    """Raise UsageError unless both are files, and belong together; what needs a password is not asked for it here."""
    from stts_runtime.errors import UsageError

    if certificate is None or key is None:
        if certificate is not key:
            raise UsageError("--tls-cert and --tls-key belong together: give both")
        return
    for option, path in (("--tls-cert", certificate), ("--tls-key", key)):
        try:
            path.open("rb").close()
        except OSError as error:
            raise UsageError(f"{option} {path} cannot be read: {error.strerror}") from None
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=_later)
    except _LaterError:
        return
    except ssl.SSLError as error:
        raise UsageError(
            f"--tls-cert {certificate} and --tls-key {key} are no certificate and its key ({error.reason or error}): "
            "wanted both in PEM, as an authority or `openssl req -x509` makes them"
        ) from None


class _LaterError(Exception):
    """A key has a password."""


def _later() -> str:
    raise _LaterError


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
