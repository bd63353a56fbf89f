"""How many cores there are for a process, as Linux says it in its several ways."""

import os

import pytest

from stts_runtime.engine import cores
from stts_runtime.engine.cores import allowed_cores, cpu_quota


@pytest.fixture
def groups(tmp_path):
    """Return a function that writes control groups' files and this process's lines, and asks for its quota."""

    def ask(lines, **files):
        own = tmp_path / "own"
        own.write_text(lines)
        for path, text in files.items():
            file = tmp_path / "cgroup" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return cpu_quota(tmp_path / "cgroup", own)

    return ask


def test_a_containers_quota_stands_at_the_root_it_sees(groups):
    assert groups("0::/\n", **{"cpu.max": "150000 100000\n"}) == 1.5


def test_a_parents_quota_holds_for_its_children(groups):
    limits = {"job/cpu.max": "200000 100000\n", "job/step/cpu.max": "max 100000\n", "cpu.max": "800000 100000\n"}
    assert groups("0::/job/step\n", **limits) == 2


def test_a_path_of_the_host_is_looked_up_where_it_is_mounted(groups):
    assert groups("0::/docker/1234\n", **{"cpu.max": "300000 100000\n"}) == 3


def test_version_1_has_two_files(groups):
    files = {"cpu,cpuacct/a/cpu.cfs_quota_us": "50000\n", "cpu,cpuacct/a/cpu.cfs_period_us": "100000\n"}
    assert groups("4:memory:/b\n2:cpu,cpuacct:/a\n", **files) == 0.5


@pytest.mark.parametrize("text", ["max 100000\n", "-1\n", "", "100000 0\n"])
def test_no_limit_and_what_cannot_be_read_are_no_limit(groups, text):
    assert groups("0::/\n", **{"cpu.max": text}) is None


@pytest.mark.parametrize(
    ("machine", "pinned", "quota", "wanted"),
    [(8, 8, None, None), (8, 2, None, 2), (8, 8, 2.5, 3), (8, 4, 0.1, 1), (2, 2, 16.0, None)],
)
def test_the_least_of_what_is_pinned_and_paid_for_counts(monkeypatch, machine, pinned, quota, wanted):
    monkeypatch.setattr(os, "cpu_count", lambda: machine)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(pinned)), raising=False)
    monkeypatch.setattr(cores, "cpu_quota", lambda: quota)
    assert allowed_cores() == wanted
