"""Files that are sent ahead: in bounds, whole or not at all."""

import ssl
import threading

import httpx
import pytest
from reference.serving import connected, serving, wait_until

from stts_runtime.serve.listen import Loop, configured, listening


# Of a form that was cut off, starlette closes the file when it is collected, which Python 3.11 and newer call a fault.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <function SpooledTemporaryFile.__del__:pytest.PytestUnraisableExceptionWarning",
    "ignore:Unclosed file <tempfile.SpooledTemporaryFile:ResourceWarning",
)

BOUNDARY = "limit"


def form(content, end=True, name="file"):
    """Return a multipart form with a file, by hand."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"; filename="../../a.mp4"\r\n\r\n'.encode()
    return head + content + (f"\r\n--{BOUNDARY}--\r\n".encode() if end else b"")


def send(served, content, kind=f"multipart/form-data; boundary={BOUNDARY}"):
    return httpx.post(f"{served.url}/v1/files", content=content, headers={"Content-Type": kind}, timeout=30)


@pytest.mark.parametrize(
    ("content", "kind", "code"),
    [
        (form(b"x" * 100, end=False), f"multipart/form-data; boundary={BOUNDARY}", "missing_field"),
        (form(b"x", name="other"), f"multipart/form-data; boundary={BOUNDARY}", "missing_field"),
        (form(b""), f"multipart/form-data; boundary={BOUNDARY}", "invalid_clip"),
        (b"nonsense", f"multipart/form-data; boundary={BOUNDARY}", "invalid_form"),
        (form(b"x"), "multipart/form-data", "invalid_form"),
        (b"{}", "application/json", "missing_field"),
    ],
)
def test_a_form_that_is_cut_off_or_none_leaves_nothing(served, content, kind, code):
    answer = send(served, content, kind)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code), answer.text
    assert served.server.uploads.all() == []
    assert served.server.uploads._promised == 0


def test_an_upload_of_no_stated_length_is_refused(served):
    answer = send(served, iter([form(b"x")]))
    assert (answer.status_code, answer.json()["error"]["code"]) == (411, "length_required")


def test_what_a_client_calls_its_file_is_told_back_and_names_nothing_here(served):
    sent = send(served, form(b"x" * 100)).json()
    assert sent["filename"] == "../../a.mp4"
    assert served.server.uploads.get(sent["id"]).path.parent.name.startswith("stts-uploads-")
    assert httpx.get(f"{served.url}/v1/files/..%2f..%2fetc%2fpasswd").status_code == 404
    assert httpx.delete(f"{served.url}/v1/files/{sent['id']}").json()["deleted"]


def test_all_uploads_together_have_a_bound_and_so_has_each(nano_bundle):
    with serving(nano_bundle, upload_mib=1) as served:
        too_large = send(served, form(b"x" * (2 << 20)))
        assert (too_large.status_code, too_large.json()["error"]["code"]) == (413, "too_large")
        kept = send(served, form(b"x" * (900 << 10)))
        assert kept.status_code == 200
        full = send(served, form(b"x" * (300 << 10)))
        assert (full.status_code, full.json()["error"]["code"]) == (413, "storage_full")
        httpx.delete(f"{served.url}/v1/files/{kept.json()['id']}")
        assert send(served, form(b"x" * (300 << 10))).status_code == 200


def test_room_for_an_upload_that_is_cut_off_is_given_back(served):
    head = (
        f"POST /v1/files HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary={BOUNDARY}\r\n"
        "Content-Length: 10000000\r\n\r\n"
    )
    uploads = served.server.uploads
    with connected(served, head.encode() + form(b"x" * 1000, end=False)):
        wait_until(lambda: uploads._promised > 9_000_000)
    wait_until(lambda: uploads._promised == 0)
    assert uploads.all() == []


def test_a_server_with_a_certificate_answers_by_https(nano_bundle, certificate, served):
    config = configured(served.server.app, str(certificate / "cert.pem"), str(certificate / "key.pem"))
    config.lifespan = "off"  # the other server's worker answers
    with listening("127.0.0.1", 0) as listener:
        loop = Loop(config, lambda: None, 0)
        thread = threading.Thread(target=loop.run, kwargs={"sockets": [listener]})
        thread.start()
        wait_until(lambda: loop.started)
        port = listener.getsockname()[1]
        trusted = ssl.create_default_context(cafile=certificate / "cert.pem")
        trusted.check_hostname = False
        try:
            assert httpx.get(f"https://127.0.0.1:{port}/health", verify=trusted).status_code == 200
            with pytest.raises(httpx.RemoteProtocolError):
                httpx.get(f"http://127.0.0.1:{port}/health")
        finally:
            loop.should_exit = True
            thread.join(20)
        assert not thread.is_alive()
