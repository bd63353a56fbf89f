"""What the pages say and the data also says is the same."""

import re
from pathlib import Path

import pytest

from stts_export.cli import main as export
from stts_export.recipe.target import all_targets
from stts_runtime.cli import main as runtime
from stts_runtime.device.jetpack import JETPACKS


ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md"), *ROOT.glob("*/*/README.md")]
)
TARGETS = (ROOT / "docs/targets.md").read_text()


@pytest.mark.parametrize("target", all_targets(), ids=lambda target: target.name)
def test_the_support_table_has_every_target(target):
    names = set(re.findall(r"`([a-z0-9-]+)`", TARGETS))
    short = target.name.removeprefix("jetson-orin")
    assert target.name in names or (short != target.name and short in names)


@pytest.mark.parametrize("jetpack", JETPACKS, ids=lambda jetpack: jetpack.name)
def test_the_jetpack_table_is_the_runtimes(jetpack):
    (row,) = [
        line for line in TARGETS.splitlines() if re.match(rf"\| ([0-9., ]+, )?{re.escape(jetpack.name)}[ ,]", line)
    ]
    for fact in (*jetpack.modules, jetpack.python, jetpack.cuda, jetpack.tensorrt):
        assert fact in row


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page):
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        assert link.startswith("http") or (page.parent / link).exists(), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_a_page_shows_exists_with_its_options(page, capsys):
    for program, command, rest in re.findall(r"^    (stts-(?:export|runtime)) ([a-z]+)(.*)$", page.read_text(), re.M):
        with pytest.raises(SystemExit) as ended:
            {"stts-export": export, "stts-runtime": runtime}[program]([command, "--help"])
        assert ended.value.code == 0, f"{program} {command}"
        known = capsys.readouterr().out
        for option in re.findall(r"(?<=\s)--[a-z-]+", rest.split(" #")[0]):
            assert option in known, f"{program} {command} {option}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_place_is_left_to_be_filled(page):
    assert not re.search(r"@[A-Z]+@|^\(table\)$|TODO|TBD", page.read_text(), re.M)
