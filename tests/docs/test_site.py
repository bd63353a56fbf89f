"""The documentation as a site: it is made without a warning, is whole, and fetches nothing from anywhere."""

import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from reference.documented import PAGES, ROOT
from reference.once import once

import stts_runtime


NODE = shutil.which("node")
LOADED = {"link": "href", "use": "href", **dict.fromkeys(("script", "img", "iframe", "source", "video"), "src")}
FETCHES = r"(?:fetch|import|importScripts)\(\s*['\"`]https?:|\.src\s*=\s*['\"`]https?:"


class Read(HTMLParser):
    """What a page loads, where its links lead, and what in it can be led to."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.places: set[str] = set()
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what a tag names."""
        given = {name: value or "" for name, value in attrs}
        self.places.add(given.get("id", ""))
        if tag in LOADED and LOADED[tag] in given:
            self.loaded.append(given[LOADED[tag]])
        if tag == "a" and "href" in given:
            self.links.append(given["href"])


def make(root, output):
    """Run Sphinx as `make docs` does."""
    (line,) = re.findall(r"^\t\$\(BIN\)/python -m sphinx (.*)$", (ROOT / "Makefile").read_text(), re.M)
    words = line.replace("$(OUT)/docs-cache", str(output.with_name("cache"))).replace("$(OUT)/docs", str(output))
    command = [sys.executable, "-m", "sphinx", *words.split()]
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    alone = {**os.environ, **nowhere, "no_proxy": "", "NO_PROXY": ""}  # whatever it would fetch cannot be had
    return subprocess.run(command, cwd=root, env=alone, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="session")
def site(run_folder):
    """The site, made once in a test run."""

    def made(folder):
        folder.parent.mkdir(exist_ok=True)
        done = make(ROOT, folder)
        if done.returncode != 0:
            shutil.rmtree(folder, ignore_errors=True)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""

    (run_folder / "site").mkdir(exist_ok=True)
    return once(run_folder / "site" / "docs", made)


@pytest.fixture(scope="module")
def pages(site):
    """Every page of the site, read."""
    return {page.relative_to(site): Read(page) for page in sorted(site.rglob("*.html"))}


def test_every_page_of_the_documentation_is_on_it(site):
    ours = [page for page in PAGES if "stts_export" not in page.parts]
    assert len(ours) > 30
    for page in ours:
        assert (site / page.relative_to(ROOT)).with_suffix(".html").is_file(), page
    assert 'url=docs/index.html"' in (site / "index.html").read_text()


def test_nothing_is_fetched_from_elsewhere(site, pages):
    for page, read in pages.items():
        for loaded in read.loaded:
            assert not urlsplit(loaded).netloc, f"{page}: {loaded}"
    for style in site.rglob("*.css"):
        for address in re.findall(r"url\(\s*['\"]?([^'\")]+)|@import\s+['\"]([^'\"]+)", style.read_text()):
            assert not re.match(r"https?:|//", "".join(address)), style
    for script in site.rglob("*.js"):
        assert not re.search(FETCHES, script.read_text()), script


def test_every_link_within_leads_to_a_place_that_is_there(site, pages):
    followed = 0
    for page, read in pages.items():
        for link in read.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (site / page).parent / unquote(parts.path) if parts.path else site / page
            assert target.is_file(), f"{page}: {link}"
            name = target.resolve().relative_to(site.resolve())
            if parts.fragment and name in pages:
                assert unquote(parts.fragment) in pages[name].places, f"{page}: {link}"
            followed += 1
    assert followed > 1000


def test_every_name_that_the_runtime_offers_is_explained(pages):
    places = pages[Path("docs/api/runtime.html")].places
    names = set(stts_runtime.__all__) - {"ProfileError"}  # what LimitError was called before
    assert {f"stts_runtime.{name}" for name in names} <= places


def test_fields_of_records_are_explained_by_the_comments_beside_them(site):
    page = re.sub(r"<[^>]+>", "", (site / "docs/api/export.html").read_text())
    assert "what the engines are for: a target recipe" in page
    assert "stop after so many, with a state" in page


WRONG = {
    "[no page](none.md)": "none.md",
    "[no place here](#no-such-place)": "no-such-place",
    "[no place there](other.md#nowhere)": "nowhere",
    "```{eval-rst}\n.. autofunction:: stts_runtime.lod\n```": "'lod'",
    "![no picture](none.png)": "none.png",
}


def test_what_leads_nowhere_and_what_nothing_leads_to_is_an_error(tmp_path):
    shutil.copytree(ROOT / "docs", tmp_path / "docs", ignore=shutil.ignore_patterns("tasks", "api", "*.md", "*.png"))
    (tmp_path / "docs/index.md").write_text("# A\n\n" + "\n\n".join(WRONG) + "\n\n## Pages\n\n- [other](other.md)\n")
    (tmp_path / "docs/other.md").write_text("# Other\n")
    (tmp_path / "docs/alone.md").write_text("# Alone\n")
    for folder in ("runtimes", "tools"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    done = make(tmp_path, tmp_path / "site")
    assert done.returncode != 0
    for told in (*WRONG.values(), "alone.md"):
        assert told in done.stderr


@pytest.mark.skipif(NODE is None, reason="no node is installed here")
@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", [0, 1, 2]),
        ("overwrite", [0]),
        ("choose name", [0, 1]),
        ("error: micro.stts exists: choose another name, or pass --overwrite to replace it", [0]),
        ("error: 3 frames were asked for; the video has 2, so ask for 1 to 2.", [2]),
        ("no such words", []),
    ],
)
def test_a_message_is_found_by_its_words_or_by_all_of_it(query, found):
    messages = [
        "{destination} exists: choose another name, or pass --overwrite to replace it",
        "{output} exists: choose another name, or move it away",
        "{frames} frames were asked for; the video has {total}, so ask for 1 to {total}.",
    ]
    script = (ROOT / "docs/_static/errors.js").read_text()
    fitting = f"{json.dumps(messages)}.map((one) => fits(one, {json.dumps(query)}))"
    command = [NODE, "-e", f"{script}\nconsole.log(JSON.stringify({fitting}))"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [place for place, fits in enumerate(json.loads(done.stdout)) if fits] == found
