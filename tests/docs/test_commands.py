"""Every command that a page shows is one that exists, with options and values that it takes."""

import re

import pytest
from reference.documented import PAGES, ROOT, Command, commands, known_options, ours, parsed


MAKEFILE = (ROOT / "Makefile").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_our_own_parsers_take_every_command_as_it_stands_there(page):
    for command in ours(page.read_text()):
        assert callable(parsed(command).run), command.line


def test_pages_show_commands_by_the_dozen():
    found = [command.words[:2] for page in PAGES for command in ours(page.read_text())]
    assert len(found) > 120
    shown = {words[1] for words in found}
    assert {"build", "verify", "run", "serve", "train", "eval", "watch", "batch", "push", "pull"} <= shown


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "errors.md"], ids=lambda page: page.name)
def test_commands_and_options_within_a_sentence_exist(page):  # those of messages: tests/tools/test_error_page.py
    for program, command, rest in re.findall(r"`(stts-(?:export|runtime))\s+([a-z]+)([^`]*)`", page.read_text()):
        known = known_options(program, command)
        for option in re.findall(r"(?<=\s)--[a-z-]+", rest):
            assert option in known, f"{program} {command} {option}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_targets_of_make_and_scripts_with_their_options_exist(page):
    for command in commands(page.read_text()):
        if command.program == "make":
            for target in (word for word in command.words[1:] if "=" not in word):
                assert re.search(rf"^{target}:", MAKEFILE, re.M), command.line
        elif command.program == "python" and command.words[1].endswith(".py"):
            source = (ROOT / command.words[1]).read_text()
            for option in re.findall(r"(?<=\s)--[a-z-]+", command.line):
                assert f'"{option}"' in source, command.line


def test_commands_are_read_as_a_shell_reads_them():
    page = """
    make a    # not: stts-export b
    A=1 B="2 3" stts-runtime run c.stts "What's \\"it\\"?" && pip install 'd[e]' > log
    stts-export build \\
        --model f

```sh
curl -s g | sort
```

```python
    stts-runtime no
```

    it doesn't
"""
    assert [command.words for command in commands(page)] == [
        ("make", "a"),
        ("stts-runtime", "run", "c.stts", 'What\'s "it"?'),
        ("pip", "install", "d[e]"),
        ("stts-export", "build", "--model", "f"),
        ("curl", "-s", "g"),
        ("sort",),
    ]


@pytest.mark.parametrize("line", ["stts-export build --modell micro -o a.stts", "stts-runtime serve a.stts --port x"])
def test_what_a_parser_does_not_take_is_found(line, capsys):
    (command,) = ours(f"    {line}\n")
    with pytest.raises(SystemExit):
        parsed(command)
    assert capsys.readouterr().err
    assert isinstance(command, Command)
