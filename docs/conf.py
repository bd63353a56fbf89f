"""How Sphinx makes a site of the pages in this folder and of those beside it; `make docs` runs it.

The source folder is the repository's root, so links between pages are the same here and where the repository is looked
at. Nothing is fetched, and what is written fetches nothing.
"""

from __future__ import annotations

import dataclasses
import re
import sys
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx


ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "runtimes/python"), str(ROOT / "tools")]

project = "stts-export"
copyright = "its authors, Apache-2.0"  # noqa: A001  Sphinx's word
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]

root_doc = "docs/index"
source_suffix = {".md": "markdown"}
include_patterns = [
    "docs/**.md",
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "findings/README.md",
    "tests/gpu/README.md",
    "examples/cpp/README.md",
    "runtimes/python/README.md",
    "runtimes/tensorrt/README.md",
]
_FOLDERS = {pattern.partition("/")[0] for pattern in include_patterns}
# Sphinx walks through every folder that is not excluded
exclude_patterns = [path.name for path in ROOT.iterdir() if path.is_dir() and path.name not in _FOLDERS]
exclude_patterns += ["runtimes/python/stts_runtime"]

myst_heading_anchors = 4
highlight_language = "none"  # indented blocks hold commands and what they print; Python says so
default_role = "literal"  # single backticks of docstrings

add_module_names = False
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
maximum_signature_line_length = 90
python_use_unqualified_type_names = True

html_theme = "furo"
html_title = "stts-export"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_extra_path = ["_root"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True}


def setup(app: Sphinx) -> None:
    """Take part where Sphinx lets its users."""
    app.connect("source-read", on_source)
    app.connect("autodoc-process-docstring", add_fields, priority=400)  # napoleon, at 500, reads what is added
    app.connect("autodoc-process-signature", without_modules)
    app.connect("html-page-context", add_search_of_errors)


def on_source(_: Sphinx, name: str, content: list[str]) -> None:
    """Make what a page says in Markdown alone known to Sphinx."""
    folder = (ROOT / name).parent
    content[0] = without_folders(content[0], folder)
    if name == root_doc:
        content[0] += toctrees(content[0])


def without_folders(page: str, folder: Path) -> str:
    """Return a page whose links to folders are plain text: a site has none to show; links to files fetch a copy."""

    def plain(link: re.Match[str]) -> str:
        return link[1] if (folder / link[2]).is_dir() else link[0]

    return re.sub(r"\[([^\]\n]+)\]\(([^)#\s]+)\)", plain, page)


def toctrees(page: str) -> str:
    """Return the navigation: for each heading of the index a tree of the pages that its list links to."""
    trees = []
    for section in page.split("\n## ")[1:]:
        pages = [link for line in re.findall(r"^- .+$", section, re.M) for link in re.findall(r"\]\((\S+)\.md\)", line)]
        trees.append(f"\n```{{toctree}}\n:hidden:\n:caption: {section.partition(chr(10))[0]}\n\n")
        trees.append("\n".join(pages) + "\n```\n")
    return "".join(trees)


def add_fields(_: Sphinx, what: str, __: str, found: Any, ___: Any, lines: list[str]) -> None:
    """Add the fields of a record, which are explained beside them in the source, to its docstring."""
    from json_page import keys_of

    if what == "class" and dataclasses.is_dataclass(found) and "Attributes:" not in lines:
        lines += ["", "Attributes:"]
        lines += [f"    {name}: {key.meaning}" for name, key in keys_of(found).items() if key.meaning]


def without_modules(*given: Any) -> tuple[str | None, str | None]:
    """Return a signature whose types are called as in the source, without the modules that they are from."""
    signature, returned = given[5:]
    short = [one and re.sub(r"~?\b(?:\w+\.)+(?=[A-Z])", "", one) for one in (signature, returned)]
    return short[0], short[1]


def add_search_of_errors(app: Sphinx, name: str, *_: Any) -> None:
    """Add to the page of errors a field in which a message can be pasted."""
    if name == "docs/errors":
        app.add_js_file("errors.js")
