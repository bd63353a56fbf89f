"""Show an expression of the source as the text that it will be.

What is put into it when it comes stands in braces, by the name that it has in the code; of words that depend on
something all are shown, as `[these|or those]`.
"""

from __future__ import annotations

import ast
import re


HOLE = re.compile(r"\{[^{}]*\}")
Values = dict[str, ast.expr]
"""Name -> what it stands for."""


def is_words(node: ast.expr) -> bool:
    """Tell whether an expression is text that stands in the code."""
    if isinstance(node, ast.IfExp):
        return is_words(node.body) and is_words(node.orelse)
    if isinstance(node, ast.BinOp):
        return is_words(node.left) and is_words(node.right)
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def fill(node: ast.expr, known: Values) -> ast.expr:
    """Return an argument as words, with the names of the function that gives it."""
    return ast.Constant(text(node, known))


def text(node: ast.expr, known: Values) -> str:
    """Return an expression as the text it will be, what is not known yet in braces."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(text(part, known) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        return text(node.value, known)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return text(node.left, known) + text(node.right, known)
    if isinstance(node, ast.IfExp) or (isinstance(node, ast.BoolOp) and is_words(node.values[-1])):
        options = (node.body, node.orelse) if isinstance(node, ast.IfExp) else node.values
        words = [text(one, known) for one in options]
        return f"[{'|'.join(words)}]" if all(words) else f"[{''.join(words)}]"
    if isinstance(node, ast.List):
        return "".join(text(one, known) for one in node.elts)
    if isinstance(node, ast.Name) and node.id in known:
        return text(known[node.id], {name: value for name, value in known.items() if name != node.id})
    if joined := parts_joined(node):
        return joined[0].join(text(part, known) for part in joined[1])
    return f"{{{name_of(node)}}}"


def parts_joined(node: ast.expr) -> tuple[str, list[ast.expr]] | None:
    """Return the separator and the parts of a text that is joined of some parts that are named one by one."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "join"):
        return None
    (of,) = node.args
    parts = of.generators[0].iter if isinstance(of, ast.GeneratorExp) else of
    if not isinstance(parts, (ast.Tuple, ast.List)):
        return None
    return text(node.func.value, {}), [one.value if isinstance(one, ast.Starred) else one for one in parts.elts]


def name_of(node: ast.AST) -> str:
    """Return what a value is called: the names that lead to it, without what is done to show it."""
    if isinstance(node, ast.Name):
        return node.id.strip("_")
    if isinstance(node, ast.Attribute):
        if node.attr == "__name__":
            return f"type of {name_of(node.value)}"
        owner = name_of(node.value)
        return (
            node.attr.strip("_")
            if owner in ("self", "cls", "arguments", "request")
            else f"{owner}.{node.attr.strip('_')}"
        )
    if isinstance(node, (ast.GeneratorExp, ast.ListComp, ast.SetComp)):
        return name_of(node.generators[0].iter)
    if isinstance(node, ast.Call):
        of = node.args[1:] if isinstance(node.func, ast.Name) and node.func.id == "map" else node.args
        if of and not isinstance(of[0], ast.Constant):
            return name_of(of[0])
        owner = node.func.value if isinstance(node.func, ast.Attribute) else node.func
        return name_of(node.func if isinstance(owner, ast.Name) and owner.id == "self" else owner)
    if isinstance(node, ast.BoolOp):
        return name_of(node.values[0])
    if isinstance(node, ast.IfExp):
        return name_of(node.body)
    if isinstance(node, (ast.Subscript, ast.Starred, ast.Await, ast.NamedExpr, ast.FormattedValue)):
        return name_of(node.target if isinstance(node, ast.NamedExpr) else node.value)
    if isinstance(node, ast.BinOp):
        return name_of(node.left if not isinstance(node.left, ast.Constant) else node.right)
    if isinstance(node, ast.UnaryOp):
        return name_of(node.operand)
    return next((name_of(one) for one in ast.walk(node) if isinstance(one, (ast.Name, ast.Attribute))), "value")
