"""Clips by address: files in a folder that was named, and hosts that were; nothing else is ever opened.

A host's name is looked up once, refused if it leads to an address that is not public, and that very address is then
connected to: asked twice, a name may lead elsewhere. Redirections are not followed.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from stts_runtime.serve.refused import RefusedError


SECONDS = 30
"""That fetching may take in all."""

_CHUNK = 1 << 18
_UNICAST = ipaddress.IPv6Network("2000::/3")


@dataclass(frozen=True)
class Allowed:
    """What may be opened by address; nothing by default."""

    folder: Path | None = None  # local files below it
    hosts: tuple[str, ...] = ()  # names, in lower case; by https alone


def opened(url: str, allowed: Allowed, most_bytes: int) -> bytes | Path:
    """Return what an address leads to: a file's path, or what a host sent.

    Raises:
        RefusedError: the address is not allowed, leads nowhere, or to more than is allowed.
    """
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError:
        raise _refused("the address is none") from None
    if parts.scheme == "file":
        return _local(unquote(parts.path), host, allowed.folder)
    if parts.scheme not in ("http", "https"):
        raise _refused("wanted a data: URL, or an address by https")
    if host not in allowed.hosts:
        raise _refused(
            "this server fetches nothing from that host; send the clip itself, as a data: URL or to /v1/files"
        )
    if parts.scheme != "https" or parts.username is not None or port not in (None, 443):
        raise _refused("addresses are fetched by https alone, without a user and from the usual port")
    target = f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}"
    return fetched(host, public_address(host), target, most_bytes)


def public_address(host: str) -> str:
    """Return an address of a host's name.

    Raises:
        RefusedError: it has none, or one that is not public.
    """
    try:
        found = [str(entry[4][0]) for entry in socket.getaddrinfo(host, 443, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError):
        raise _refused("the host's name is not known") from None
    if not found or not all(is_public(address) for address in found):
        raise _refused("the host's name leads into a private network")
    return found[0]


def is_public(address: str) -> bool:
    """Tell whether an address is one of the public network, and not one that leads on to another inside it."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return is_public(str(found.ipv4_mapped))
        # Beyond 2000::/3 lie NAT64's and other ways back to IPv4; 6to4's and Teredo's are in it.
        is_way = found.sixtofour is not None or found.teredo is not None
        return found.is_global and found in _UNICAST and not is_way
    return found.is_global and not found.is_multicast


def fetched(host: str, address: str, target: str, most_bytes: int, context: ssl.SSLContext | None = None) -> bytes:
    """Return what a host sends, from the address that was checked.

    Raises:
        RefusedError: it sends something else, too much, or too slowly.
    """
    connection = _Pinned(host, address, context or ssl.create_default_context())
    end = time.monotonic() + SECONDS
    clock = threading.Timer(SECONDS, connection.break_off)  # a head may come a byte at a time, too
    clock.daemon = True
    clock.start()
    try:
        connection.request("GET", target, headers={"Accept": "video/*, image/*, */*;q=0.1"})
        answer = connection.getresponse()
        if answer.status != 200:
            raise _refused(f"the host answered {answer.status}")
        content = bytearray()
        while chunk := answer.read(_CHUNK):
            content += chunk
            if len(content) > most_bytes:
                raise RefusedError(413, "too_large", f"what the host sends is larger than {most_bytes >> 20} MiB")
        if time.monotonic() > end:  # broken off, which a body of no stated length does not tell from its end
            raise TimeoutError
        if answer.length:  # of a body that was cut off, `read` does not tell
            raise http.client.IncompleteRead(b"", answer.length)
        return bytes(content)
    except (OSError, http.client.HTTPException):
        slow = f", or sent too slowly: it had {SECONDS} s" if time.monotonic() > end else ""
        raise _refused(f"the host could not be reached, or broke off{slow}") from None
    except UnicodeError:
        raise _refused("the address holds signs that are to be written as %XX") from None
    finally:
        clock.cancel()
        connection.close()


class _Pinned(http.client.HTTPSConnection):
    """A connection to an address, to which the host's certificate has to belong all the same."""

    def __init__(self, host: str, address: str, context: ssl.SSLContext) -> None:
        super().__init__(host, 443, timeout=SECONDS / 3, context=context)
        self._address, self._tls = address, context
        self._held: ssl.SSLSocket | None = None  # `sock` is let go where the other side ends the connection

    def connect(self) -> None:
        plain = socket.create_connection((self._address, 443), self.timeout)
        self.sock = self._held = self._tls.wrap_socket(plain, server_hostname=self.host)

    def break_off(self) -> None:
        """Let whoever waits for the other side find that it has gone; from another thread, so beneath TLS."""
        if self._held is not None:
            with suppress(OSError):
                socket.socket.shutdown(self._held, socket.SHUT_RDWR)


def _local(path: str, host: str, folder: Path | None) -> Path:
    if folder is None or host not in ("", "localhost"):
        raise _refused("this server opens no files of its own; send the clip, as a data: URL or to /v1/files")
    try:
        found = Path(path).resolve(strict=True)
        if found.is_relative_to(folder.resolve()) and found.is_file():
            return found
    except (OSError, ValueError, RuntimeError):
        pass
    raise _refused("no such file lies in the folder that this server opens files from")


def _refused(message: str) -> RefusedError:
    return RefusedError(400, "address_refused", message, "url")


def hosts_from(names: Sequence[str]) -> tuple[str, ...]:
    """Return names of hosts as they are compared."""
    return tuple(name.strip().lower() for name in names)
