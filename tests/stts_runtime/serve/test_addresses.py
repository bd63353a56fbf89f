"""What is fetched by address: nothing, unless its host was named, and then nothing private."""

import socket
import ssl
import threading
from contextlib import contextmanager

import pytest

from stts_runtime.serve import addresses
from stts_runtime.serve.addresses import Allowed, fetched, hosts_from, is_public, opened, public_address
from stts_runtime.serve.refused import RefusedError


ALLOWED = Allowed(hosts=hosts_from(["Example.org"]))


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
     "255.255.255.255", "::1", "::", "fe80::1", "fe80::1%eth0", "fd00::1", "ff02::1", "::ffff:10.0.0.1",
     "::ffff:127.0.0.1", "64:ff9b::10.0.0.1", "2002:a00:1::", "2001:0:4136:e378:8000:63bf:f5ff:fffe", "::10.0.0.1"],
)  # fmt: skip
def test_private_addresses_in_all_their_forms_are_not_public(address):
    assert not is_public(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700::1111", "::ffff:1.1.1.1"])
def test_public_addresses_are(address):
    assert is_public(address)


def refusal(url, allowed=ALLOWED):
    with pytest.raises(RefusedError) as found:
        opened(url, allowed, 1 << 20)
    assert (found.value.status, found.value.code) == (400, "address_refused")
    return str(found.value)


def test_nothing_is_looked_up_for_a_host_that_was_not_named(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", None)
    for url in ("https://example.com/", "https://example.org.evil/", "https://example.org@evil/", "http://[::1]/"):
        assert "fetches nothing from that host" in refusal(url)
    assert "fetches nothing" in refusal("https://example.org/", Allowed())


def test_a_named_host_is_asked_by_https_alone_and_at_its_port(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", None)
    for url in ("http://example.org/", "https://example.org:8443/", "https://user:pass@example.org/"):
        assert "https alone" in refusal(url)


@pytest.mark.parametrize("private", ["10.0.0.1", "::1"])
def test_a_named_host_that_leads_into_a_private_network_is_refused_even_if_not_all_of_its_addresses_do(
    monkeypatch, private
):
    found = [(2, 1, 6, "", ("93.184.215.14", 443)), (2, 1, 6, "", (private, 443))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    assert "private network" in refusal("https://example.org/clip.mp4")


def test_a_name_that_nobody_knows_is_refused(monkeypatch):
    def unknown(*_, **__):
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(RefusedError, match="not known"):
        public_address("example.org")


@contextmanager
def host(certificate, answer, monkeypatch):
    """Run a host on loopback that sends `answer`, and give the names it was asked for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    asked, over = [], threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        try:
            connection, _ = listener.accept()
            with connection, context.wrap_socket(connection, server_side=True) as secure:
                asked.append(secure.recv(1 << 16).decode().split("\r\n\r\n")[0])
                for piece in answer:
                    secure.sendall(piece)
                    over.wait(0.05 if len(answer) > 1 else 0)
        except (OSError, ssl.SSLError):
            pass

    real = socket.create_connection
    monkeypatch.setattr(addresses.socket, "create_connection", lambda _, timeout: real(listener.getsockname(), timeout))
    thread = threading.Thread(target=serve)
    thread.start()
    with listener:
        yield asked
        over.set()
        thread.join(10)


def fetch(certificate, name="example.org", most=1 << 20):
    context = ssl.create_default_context(cafile=certificate / "cert.pem")
    return fetched(name, "203.0.113.1", "/clip.mp4?a=1", most, context)


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


def test_a_clip_is_fetched_from_the_address_that_was_checked_under_the_hosts_name(certificate, monkeypatch):
    with host(certificate, [OK], monkeypatch) as asked:
        assert fetch(certificate) == b"hello"
    assert asked[0].startswith("GET /clip.mp4?a=1 HTTP/1.1\r\nHost: example.org\r\n")


@pytest.mark.parametrize(
    ("answer", "told", "status"),
    [
        ([b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\nContent-Length: 0\r\n\r\n"], "answered 302", 400),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n" + b"x" * 2_000_000], "larger than", 413),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhel"], "broke off", 400),
        ([b"nonsense\r\n\r\n"], "could not be reached", 400),
    ],
)
def test_what_a_host_sends_instead_is_refused(certificate, monkeypatch, answer, told, status):
    with host(certificate, answer, monkeypatch), pytest.raises(RefusedError, match=told) as found:
        fetch(certificate)
    assert found.value.status == status


def test_another_hosts_certificate_is_refused(certificate, monkeypatch):
    with host(certificate, [OK], monkeypatch), pytest.raises(RefusedError, match="could not be reached"):
        fetch(certificate, "example.com")


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_a_host_that_sends_a_byte_now_and_then_is_left(certificate, monkeypatch, head):
    monkeypatch.setattr(addresses, "SECONDS", 0.5)
    with host(certificate, [head, *([b"H"] * 200)], monkeypatch), pytest.raises(RefusedError, match="too slowly"):
        fetch(certificate)


def test_an_address_with_signs_that_cannot_be_sent_is_refused(monkeypatch):
    found = [(2, 1, 6, "", ("93.184.215.14", 443))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    monkeypatch.setattr(socket, "create_connection", lambda *_: (_ for _ in ()).throw(OSError))
    for url in ("https://example.org/\u00e9", "https://example.org/\ud800", "https://example.org/a b"):
        refusal(url)
