"""Find every message of our errors in the source of both packages, with its class and with when it comes.

A message is the text that an error is made of, wherever that is: raised, returned by a function that makes errors, or
made of what a library says; `error_text.py` says how it is shown.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from error_text import HOLE, Values, fill, is_words, text


ROOT = Path(__file__).parents[1]
PACKAGES = (ROOT / "stts_export", ROOT / "runtimes/python/stts_runtime")
BASES = ("SttsError", "RefusedError")
"""What our errors derive from: all that a command or a call tells, and what the server tells a client."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Kind(NamedTuple):
    """A class of errors."""

    name: str
    base: str
    doc: str
    exit_code: int | None  # None for what a client of the server is told


class Message(NamedTuple):
    """A message with what is in its braces left open."""

    module: str  # path below its package's parent
    kind: str
    text: str
    when: str  # a sentence without its full stop
    status: int | None = None  # of HTTP, where it is the server's


@dataclass(frozen=True)
class Scope:
    """A function, or a module's own level, with what is around it."""

    module: str
    function: Function | None
    docs: tuple[str, ...]  # from the innermost outwards, the module's last
    words: Values  # texts that have a name in the module

    @property
    def name(self) -> str:
        """Its name, empty for a module."""
        return self.function.name if self.function else ""


class Call(NamedTuple):
    """A call within a scope."""

    scope: Scope
    node: ast.Call


def sources() -> dict[str, ast.Module]:
    """Return every module of both packages by its path below their folders."""
    files = ((file, package.parent) for package in PACKAGES for file in sorted(package.rglob("*.py")))
    return {str(file.relative_to(parent)): ast.parse(file.read_text()) for file, parent in files}


def kinds_of(modules: dict[str, ast.Module]) -> dict[str, Kind]:
    """Return our public classes of errors by name, bases before what derives from them."""
    classes = [node for tree in modules.values() for node in tree.body if isinstance(node, ast.ClassDef) and node.bases]
    found: dict[str, Kind] = {}
    todo = [node for node in classes if not node.name.startswith("_")]
    while True:
        fitting = [node for node in todo if node.name not in found and (node.name in BASES or _base(node) in found)]
        if not fitting:
            return found
        for node in fitting:
            base = found.get(_base(node))
            code = base.exit_code if base else None
            for line in node.body:
                if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == "exit_code":
                    code = ast.literal_eval(line.value)
            found[node.name] = Kind(node.name, _base(node), ast.get_docstring(node) or "", code)


def messages(modules: dict[str, ast.Module] | None = None) -> tuple[Message, ...]:
    """Return every message in the order of the source, each once a module and class; of other `modules` where given."""
    modules = sources() if modules is None else modules
    kinds = kinds_of(modules)
    calls = [
        call
        for module, tree in modules.items()
        for call in _calls(tree, Scope(module, None, (_doc(tree),), _words(tree, modules)))
    ]
    makers = {
        (call.scope.module, call.scope.name): call.scope for call in calls if _returned(call.scope, kinds) is not None
    }
    carried = [found for call in calls if (found := _carried(call, makers, kinds)) is not None]
    carriers = {maker for maker, _ in carried} - {maker for maker, message in carried if message is None}
    own = [
        found
        for call in calls
        if (kind := _class_of(call.node, kinds, call.scope)) and id(call.scope.function) not in carriers
        if (found := _message(call.scope, call.node, kind, kinds, {}))
    ]
    order = {module: place for place, module in enumerate(modules)}
    every: dict[tuple[str, str, str], Message] = {}
    for message in (*own, *(message for _, message in carried if message is not None)):
        every.setdefault((message.module, message.kind, message.text), message)
    return tuple(sorted(every.values(), key=lambda message: order[message.module]))


def _calls(node: ast.AST, scope: Scope) -> Iterator[Call]:
    for child in ast.iter_child_nodes(node):
        inner = scope
        if isinstance(child, Function):
            inner = replace(scope, function=child, docs=(_doc(child), *scope.docs))
        elif isinstance(child, ast.ClassDef):
            inner = replace(scope, docs=(_doc(child), *scope.docs))
        if isinstance(child, ast.Call):
            yield Call(scope, child)
        yield from _calls(child, inner)


def _words(tree: ast.Module, modules: dict[str, ast.Module]) -> Values:
    """Return the texts that a module gives a name to, or takes by name from another of ours."""
    found = {
        line.targets[0].id: line.value
        for line in tree.body
        if isinstance(line, ast.Assign) and isinstance(line.targets[0], ast.Name) and is_words(line.value)
    }
    for line in tree.body:
        if isinstance(line, ast.ImportFrom) and (of := modules.get(f"{(line.module or '').replace('.', '/')}.py")):
            theirs = _words(of, {})
            found |= {one.asname or one.name: theirs[one.name] for one in line.names if one.name in theirs}
    return found


def _carried(
    call: Call, makers: dict[tuple[str, str], Scope], kinds: dict[str, Kind]
) -> tuple[int, Message | None] | None:
    """Return which function that makes an error is called, and the message, where it is given the words for one."""
    name = call.node.func.attr if isinstance(call.node.func, ast.Attribute) else ast.unparse(call.node.func)
    near = [makers[key] for key in ((call.scope.module, name),) if key in makers]
    maker = (near or [scope for (_, other), scope in makers.items() if other == name] or [None])[0]
    if maker is None or maker.function is None or name == "__init__":
        return None
    parameters = [one.arg for one in maker.function.args.args if one.arg not in ("self", "cls")]
    values: Values = dict(zip(parameters, call.node.args, strict=False))
    values |= {one.arg: one.value for one in call.node.keywords if one.arg}
    if not any(_is_sentence(text(value, _locals(call.scope))) for value in values.values()):
        return id(maker.function), None
    kind = _returned(maker, kinds)
    made = next(
        (node for node in ast.walk(maker.function) if isinstance(node, ast.Call) and _makes(node, kind, kinds)), None
    )
    if made is None or kind is None:
        return None
    known = _locals(call.scope)
    message = _message(
        maker, made, _class_of(made, kinds) or kind, kinds, {k: fill(v, known) for k, v in values.items()}
    )
    if message is None or not any(isinstance(node, ast.Name) and node.id in values for node in ast.walk(made)):
        return None
    when = _when(call.scope, kind, kinds)
    return id(maker.function), message._replace(module=call.scope.module, when=when)


def _makes(node: ast.Call, kind: str | None, kinds: dict[str, Kind]) -> bool:
    return _class_of(node, kinds) is not None or (kind is not None and ast.unparse(node.func) == "self.error")


def _class_of(node: ast.Call, kinds: dict[str, Kind], scope: Scope | None = None) -> str | None:
    """Return the class of errors that is called, by its name or as an argument that is `type[...]` of one."""
    name = ast.unparse(node.func).rpartition(".")[2]
    if scope is not None and scope.function is not None:
        given = scope.function.args
        of = {one.arg: ast.unparse(one.annotation) for one in (*given.args, *given.kwonlyargs) if one.annotation}
        name = of.get(name, name).removeprefix("type[").removesuffix("]")
    return name if name in kinds else None


def _returned(scope: Scope, kinds: dict[str, Kind]) -> str | None:
    """Return the class of errors that a function says it returns."""
    returns = scope.function.returns if scope.function else None
    name = ast.unparse(returns).partition(" | ")[0] if returns else ""
    return name if name in kinds else None


def _message(scope: Scope, node: ast.Call, kind: str, kinds: dict[str, Kind], values: Values) -> Message | None:
    """Return the message of a call that makes an error; None where all of its words are somebody else's."""
    is_refusal = kinds[kind].exit_code is None
    given = [*node.args[2:3]] if is_refusal else node.args[:1]
    if not given:
        return None
    said = " ".join(text(given[0], {**_locals(scope), **values}).split())
    if not _is_sentence(said):
        return None
    status = node.args[0] if is_refusal else None
    number = status.value if isinstance(status, ast.Constant) and isinstance(status.value, int) else None
    return Message(scope.module, kind, said, _when(scope, kind, kinds), number)


def _is_sentence(said: str) -> bool:
    return len(re.findall(r"[A-Za-z]{2,}", HOLE.sub("", said))) >= 2


def _when(scope: Scope, kind: str, kinds: dict[str, Kind]) -> str:
    """Return what the docstrings around say of this class of errors, else what is being done there."""
    for doc in scope.docs[:-1]:
        raises = doc.partition("\nRaises:\n")[2].partition("\n\n")[0]
        for name in (kind, *_above(kind, kinds)):
            found = re.search(rf"^ +{name}: (.+(?:\n {{6,}}.+)*)", raises, re.M)
            if found and not found[1].startswith("see "):
                return " ".join(found[1].split()).rstrip(".")
    first = " ".join(next((doc for doc in scope.docs if doc), "").partition("\n\n")[0].split()).rstrip(".")
    return re.sub(r"^Raise \w+ (?=unless|where|if|for)", "", first)


def _above(kind: str, kinds: dict[str, Kind]) -> Iterator[str]:
    while kind in kinds and (kind := kinds[kind].base) in kinds:
        yield kind


def _locals(scope: Scope) -> Values:
    """Return the names that a function gives to words once."""
    if scope.function is None:
        return scope.words
    values: dict[str, list[ast.expr]] = {}
    for node in ast.walk(scope.function):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target] if _binds(node) else []
        for target in targets:
            for name in ast.walk(target):
                if isinstance(name, ast.Name):
                    is_whole = isinstance(node, ast.Assign) and name is target
                    values.setdefault(name.id, []).append(node.value if is_whole else ast.Constant(None))
    own = {name: found[0] for name, found in values.items() if len(found) == 1 and is_words(found[0])}
    return {**{name: words for name, words in scope.words.items() if name not in values}, **own}


def _binds(node: ast.AST) -> bool:
    return isinstance(node, (ast.AnnAssign, ast.AugAssign, ast.For, ast.NamedExpr, ast.comprehension))


def _doc(node: ast.AST) -> str:
    return (ast.get_docstring(node) or "") if isinstance(node, (Function, ast.ClassDef, ast.Module)) else ""


def _base(node: ast.ClassDef) -> str:
    return ast.unparse(node.bases[0]).rpartition(".")[2]
