#!/usr/bin/env bash
# PyAV 18.1.0: opening an RTSP address of a host that takes the connection and says nothing fails, once the timeout is over,
# as if the camera had sent what is no video. The same silence at http:// or tcp:// is told as an interruption.
#
# Input: av.open("rtsp://127.0.0.1:PORT/a", timeout=(2, 2)) and the same by http and tcp; whoever listens there accepts and
#   sends nothing.
# Expected: one kind of error for one timeout, which tells silence from bad data, so that a program knows whether to wait and
#   connect again or to give up.
# Seen: after 2 seconds rtsp raises InvalidDataError ("Invalid data found when processing input"), the other two ExitError
#   ("Immediate exit requested"); of the first nothing but the clock tells that it was a timeout.
# Hence: the runtime measures how long opening took, and calls a source silent that took all of it, whatever the error says.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check av==18.1.0
"$folder/venv/bin/python" - <<'PYTHON'
import socket
import threading
import time

import av

SECONDS = 2.0
print("PyAV", av.__version__)
held = []


def accept(listener):
    while True:
        held.append(listener.accept())


found = {}
for scheme in ("rtsp", "http", "tcp"):
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=accept, args=(listener,), daemon=True).start()
    start = time.monotonic()
    try:
        av.open(f"{scheme}://127.0.0.1:{listener.getsockname()[1]}/a", timeout=(SECONDS, SECONDS))
    except av.error.FFmpegError as error:
        found[scheme] = type(error).__name__
        print(f"{scheme}: {found[scheme]} ({error.strerror}) after {time.monotonic() - start:.1f} s")
assert found == {"rtsp": "InvalidDataError", "http": "ExitError", "tcp": "ExitError"}, found
PYTHON
