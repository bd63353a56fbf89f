"""The page of errors says what the source says, and all of it."""

import ast
import importlib
import importlib.util
import inspect
import re
import sys
from pathlib import Path

import pytest
from reference.documented import known_options

from stts_export import errors as compiler
from stts_export.cli import main as export
from stts_runtime import errors as runtime
from stts_runtime.cli import main as run
from stts_runtime.serve.refused import RefusedError


ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/errors.md").read_text()
COMMAND = re.compile(r"(?:`|: |with )(stts-(?:export|runtime)) ([a-z]+)([^`.;]*)")


@pytest.fixture(scope="module")
def tools():
    """The scripts, which import each other from their folder."""
    sys.path.insert(0, str(ROOT / "tools"))
    yield importlib.import_module("error_messages"), importlib.import_module("error_page")
    sys.path.remove(str(ROOT / "tools"))


@pytest.fixture(scope="module")
def found(tools):
    """Every message."""
    return tools[0].messages()


def found_in(tools, source, kind="UsageError"):
    """Return the messages of a module of this text."""
    messages, _ = tools
    modules = {name: tree for name, tree in messages.sources().items() if name.endswith("/errors.py")}
    modules["stts_export/made_up.py"] = ast.parse(source)
    return [one for one in messages.messages(modules) if one.module == "stts_export/made_up.py" and one.kind == kind]


def test_the_page_is_what_the_code_says_now(tools):
    assert tools[1].page() == PAGE, "run tools/error_page.py > docs/errors.md"


def test_every_class_is_on_the_page_with_its_exit_code():
    classes = {
        one
        for module in (runtime, compiler)
        for one in vars(module).values()
        if inspect.isclass(one) and issubclass(one, runtime.SttsError)
    }
    for one in classes:
        assert re.search(rf"^\| `{one.__name__}`(, a `{one.__base__.__name__}`)? \| {one.exit_code} \|", PAGE, re.M)
    rows = re.findall(r"^\| `(\w+Error)`", PAGE, re.M)
    assert sorted(rows) == sorted({one.__name__ for one in classes} | {RefusedError.__name__})


PROVOKED = [
    (export, "build --model micro -o micro", 2),
    (export, "build --model micro --prune 1.5 -o micro.stts", 2),
    (export, "targets jetson-orrin", 2),
    (export, "data -o nowhere", 2),
    (export, "estimate --model wrong.toml --target l4 --frames 8", 2),
    (export, "eval nothing --data nowhere", 1),
    (run, "run none.stts --video a.mp4 What?", 1),
    (run, "run toy.stts --video none.mp4 What?", 2),
    (run, "run toy.stts --video wrong.toml What?", 2),
    (run, "run toy.stts --image wrong.toml What?", 2),
    (run, "run toy.stts --video none.mp4 --prune 3 What?", 2),
    (run, "verify toy.stts", 1),
    (run, "serve toy.stts --host 0.0.0.0", 2),
    (run, "batch toy.stts --questions none.jsonl -o answers.jsonl", 2),
    (run, "doctor --probe wrong.toml", 2),
]


@pytest.mark.parametrize(("program", "words", "code"), PROVOKED, ids=[words for _, words, _ in PROVOKED])
def test_what_a_command_says_is_a_message_of_the_page_with_its_exit_code(
    program, words, code, tools, found, toy_bundle, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy.stts").symlink_to(toy_bundle("ragged"))
    (tmp_path / "wrong.toml").write_text("nam = 'a'\n")
    assert program(words.split()) == code
    said = capsys.readouterr().err.partition("error: ")[2].strip()
    kinds = tools[0].kinds_of(tools[0].sources())
    fitting = [one for one in found if re.fullmatch(pattern_of(one.text), " ".join(said.split()))]
    assert fitting, said
    assert code in {kinds[one.kind].exit_code for one in fitting} | {2 for one in fitting if one.kind == "SttsError"}


def pattern_of(message):
    """Return what a message looks like when it comes: braces hold something, brackets one of their words or nothing."""
    parts = re.split(r"(\{[^{}]*\}|\[[^\[\]]*\])", message)
    return "".join(map(looks_like, parts))


def looks_like(part):
    if part.startswith("["):
        return f"(?:{'|'.join([re.escape(part), *map(pattern_of, part[1:-1].split('|'))])})?"
    return ".+" if part.startswith("{") else re.escape(part)


def test_every_raise_of_our_classes_with_a_text_of_its_own_is_found(tools, found):
    """Counted another way: by the words themselves, whatever is around them."""
    collector = tools[0]
    fixed = [set(re.findall(r"[A-Za-z]{3,}", one.text)) for one in found]
    kinds = set(collector.kinds_of(collector.sources()))
    missed = []
    for module, tree in collector.sources().items():
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)):
                continue
            if getattr(node.exc.func, "id", "") not in kinds or not node.exc.args:
                continue
            texts = [
                one.value for one in ast.walk(node.exc) if isinstance(one, ast.Constant) and type(one.value) is str
            ]
            words = set(re.findall(r"[A-Za-z]{3,}", max(texts, key=len, default="")))
            if len(words) >= 4 and not any(words <= own for own in fixed):
                missed.append((module, node.lineno))
    assert missed == []
    assert len(found) > 600


def test_what_is_put_in_and_what_depends_is_shown(tools):
    (message,) = found_in(
        tools,
        '''
"""Of a module."""
from stts_runtime.errors import UsageError
HOW = "try `that`"

def check(file, names, here):
    """Look at a file.

    Raises:
        UsageError: it is none of
            the known.
    """
    hint = f"did you mean {near(names)!r}?"
    raise UsageError(f"{file.name}: {len(names)} of {', '.join(names)} {'here' if here else 'there'}; {hint} or {HOW}")
''',
    )
    assert message.text == "{file.name}: {names} of {names} [here|there]; did you mean {names}? or try `that`"
    assert message.when == "it is none of the known"


def test_the_words_given_to_a_function_that_makes_an_error_are_the_message(tools):
    found = found_in(
        tools,
        '''
"""Of a module."""
from stts_runtime.errors import UsageError

def _refused(path: str, reason: str) -> UsageError:
    return UsageError(f"{path} is refused: {reason}. Take another")

def first(path):
    """Look at the first."""
    raise _refused(path, "it is not whole")

def second(path, size):
    """Raise UsageError where it is too large."""
    if size:
        raise _refused(path, reason=f"{size} bytes are too many")
''',
    )
    assert [(one.text, one.when) for one in found] == [
        ("{path} is refused: it is not whole. Take another", "Look at the first"),
        ("{path} is refused: {size} bytes are too many. Take another", "where it is too large"),
    ]


def test_messages_that_are_somebody_elses_words_are_left_out(tools):
    source = "from stts_runtime.errors import UsageError\ndef f(e):\n    raise UsageError(str(e))\n"
    assert found_in(tools, source) == []


def test_commands_that_messages_name_exist_with_their_options(found):
    named = [one for message in found for one in COMMAND.findall(message.text)]
    assert len(named) > 20
    for program, command, rest in named:
        known = known_options(program, command)
        for option in re.findall(r"(?<=\s)--[a-z-]+", rest):
            assert option in known, f"{program} {command} {option}"


def test_a_module_under_no_heading_is_refused(tools, found):
    collector, page = tools
    message = collector.Message("stts_runtime/somewhere/new.py", "UsageError", "wanted more of it", "it is new")
    with pytest.raises(ValueError, match="under no heading of ROOMS"):
        list(page.rooms((*found, message), collector.kinds_of(collector.sources())))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("{path} exists: choose another name", True),
        ("--batch is {batch}, wanted at least 1 clip", True),
        ("{path} is damaged. Copy it again", True),
        ("{what} needs Pillow: {install}", True),
        ("the body was cut off", False),
        ("nvrtc{function} failed: {nvrtc}", False),
    ],
)
def test_a_message_that_names_no_way_is_marked(tools, text, names):
    message = tools[0].Message("a.py", "UsageError", text, "")
    assert tools[1].names_a_way(message) == names
