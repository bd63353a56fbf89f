"""A bounded run of the fuzzer: nothing but success or one of our errors."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from hostile.forked import CRASH, FINE, HANG, OURS, RAW, run_forked
from hostile.mutate import leaves, spoil, spoil_bytes, spoil_text

from stts_runtime.errors import UsageError


CASES, SECONDS = 120, 75


@pytest.mark.slow
def test_spoilt_inputs_are_accepted_or_refused_by_one_of_our_errors(toy_bundle, tmp_path):
    bundle = toy_bundle("ffd")
    for name, path in {"toy.stts": "ffd.stts", "checkpoint": "ffd-checkpoint", "toy.toml": "ffd.toml"}.items():
        (tmp_path / name).symlink_to(bundle.with_name(path))
    command = [sys.executable, str(Path(__file__).with_name("fuzz.py")), "--json", "--ground", str(tmp_path)]
    done = subprocess.run(
        [*command, "--cases", str(CASES), "--seconds", str(SECONDS)], capture_output=True, text=True, check=False
    )
    found = json.loads(done.stdout)
    assert found["bad"] == []
    assert sum(found["counts"].values()) >= CASES // 4  # else the machine is too slow for this to say anything


def raising(error):
    def case():
        raise error

    return case


class Panic(BaseException):
    pass


@pytest.mark.parametrize(
    ("case", "how", "text"),
    [
        (lambda: None, FINE, ""),
        (raising(UsageError("no such clip")), OURS, "UsageError: no such clip"),
        (raising(KeyError("features")), RAW, "KeyError: 'features'"),
        (raising(Panic("index")), RAW, "Panic: index"),
        (lambda: bytearray(1 << 40), OURS, "MemoryError"),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), CRASH, "ended with status"),
        (lambda: __import__("time").sleep(60), HANG, "no answer in 2 s"),
    ],
    ids=["fine", "ours", "raw", "panic", "memory", "abort", "sleep"],
)
def test_a_fork_tells_how_its_case_ended(case, how, text):
    outcome = run_forked(case, 2.0)
    assert outcome.how == how
    assert text in outcome.text


def test_spoiling_is_seeded_and_changes_something():
    data = {"a": [1, 2, {"b": "text"}], "c": 0.5}
    assert len(list(leaves(data))) == 6
    assert spoil(data, Random(3), 2) == spoil(data, Random(3), 2)
    assert any(spoil(data, Random(seed)) != data for seed in range(5))
    assert data == {"a": [1, 2, {"b": "text"}], "c": 0.5}
    assert spoil_text("a = 1\nb = 2\n", Random(1)) == spoil_text("a = 1\nb = 2\n", Random(1))
    assert spoil_bytes(b"abcdef", Random(2)) != b"abcdef"
