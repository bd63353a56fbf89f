"""What the pages say and the data also says is the same."""

import re
import shlex
import statistics

import pytest
import tomllib
import yaml
from reference.documented import PAGES, ROOT
from reference.streams import write_stream

from stts_export.recipe.target import all_targets
from stts_runtime.bundle.open import open_bundle
from stts_runtime.cli import main as runtime
from stts_runtime.device.jetpack import JETPACKS


TARGETS = (ROOT / "docs/targets.md").read_text()
ARCHITECTURE = (ROOT / "docs/architecture.md").read_text()
PACKAGES = {"stts_export": ROOT / "stts_export", "stts_runtime": ROOT / "runtimes/python/stts_runtime"}


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
def test_no_place_is_left_to_be_filled(page):
    assert not re.search(r"@[A-Z]+@|^\(table\)$|TODO|TBD", page.read_text(), re.M)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_a_page_names_is_there(page):
    roots = (ROOT, ROOT / "runtimes/python", *PACKAGES.values(), page.parent)
    files, folders = r"[\w./-]+/[\w.-]+\.(?:py|toml|md|sh)", r"(?:stts_export|stts_runtime|tests)/[\w/]+"
    for name in re.findall(rf"`({files}|{folders})`", page.read_text()):
        assert any(found for root in roots for found in root.glob(name.replace("NAME", "*"))), name


@pytest.mark.parametrize("package", PACKAGES)
def test_the_rooms_are_those_of_the_contract_from_the_top_down(package):
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = [contract["layers"] for contract in contracts if contract.get("containers") == [package]]
    level = {room: place for place, layer in enumerate(layers) for room in layer.split(" | ")}
    rooms = re.findall(r"^\| `(\w+)` \|", ARCHITECTURE.partition(f"### {package}")[2].partition("\n#")[0], re.M)
    assert sorted(rooms) == sorted(level)
    assert [level[room] for room in rooms] == sorted(level.values())


def test_files_are_of_the_size_that_is_told():
    lines = [len(file.read_text().splitlines()) for folder in PACKAGES.values() for file in folder.rglob("*.py")]
    assert 65 <= statistics.median(lines) <= 95  # "some 80"
    assert max(lines) < 400


def test_the_picture_has_every_graph_and_the_shapes_of_their_tensors(toy_bundle):
    graphs = open_bundle(toy_bundle("ffd")).manifest.graphs
    picture = (ROOT / "docs/architecture.svg").read_text()
    assert set(graphs) <= set(re.findall(r">(\w+)</text>", picture))
    tensors = [tensor for graph in graphs.values() for tensor in (*graph.spec.inputs, *graph.spec.outputs)]
    drawn = [(name, tuple(sizes.split(", "))) for name, sizes in re.findall(r"(\w+) \[([\w, ]+)\]", picture)]
    assert drawn
    values = {}  # of a symbol that stands for one number in each bundle
    for name, shape in drawn:
        (fitting,) = {tensor.shape for tensor in tensors if tensor.name == name and agree(tensor.shape, shape)}
        for symbol, size in zip(shape, fitting, strict=True):
            assert values.setdefault(symbol, size) == size, (name, symbol)


def agree(shape, drawn):
    """Whether a shape may be drawn like this: dynamic sizes by their name, fixed ones by any other or as numbers."""
    return len(shape) == len(drawn) and all(
        size == symbol if isinstance(size, str) else str(size) == symbol or not symbol.isdigit()
        for size, symbol in zip(shape, drawn, strict=True)
    )


def test_hooks_are_the_checks_of_make():
    makefile = (ROOT / "Makefile").read_text()
    (checks,) = re.findall(r"^check: ([a-z ]+?) *##", makefile, re.M)
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [hook["id"] for hook in repository["hooks"]] == checks.split()
    assert all(hook["entry"] == f"make {hook['id']}" for hook in repository["hooks"])


def test_every_finding_is_listed_runs_by_itself_and_says_what_it_shows():
    scripts = sorted((ROOT / "findings").glob("*.sh"))
    listed = (ROOT / "findings/README.md").read_text()
    for script in scripts:
        assert f"[{script.stem}]({script.name})" in listed
        assert script.stat().st_mode & 0o111, script.name
        text = script.read_text()
        assert all(f"# {word}:" in text for word in ("Input", "Expected", "Seen", "Hence")), script.name
        assert "mktemp" in text
        assert "stts_" not in text


def test_what_the_live_page_shows_of_files_and_in_python_runs(toy_bundle, tmp_path, monkeypatch, capsys):
    page = (ROOT / "docs/live.md").read_text()
    commands = [line for line in re.findall(r"^    stts-runtime (watch .*)$", page, re.M) if " clip.mp4 " in line]
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.M | re.S)
    assert len(commands) >= 2
    assert len(blocks) == 2
    monkeypatch.chdir(tmp_path)
    write_stream(tmp_path / "clip.mp4", 25)
    (tmp_path / "nano.stts").symlink_to(toy_bundle("ragged"))
    for command in commands:
        assert runtime(shlex.split(command, comments=True)) == 0
        assert re.search(r"^ +\d+\.\d s ", capsys.readouterr().out, re.M)
    for block in blocks:
        exec(compile(block, "docs/live.md", "exec"), {})
        assert capsys.readouterr().out
