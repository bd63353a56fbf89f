"""Blocks of a part that are alike: two of each kind are traced, and a mark stands for each further one."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from stts_export.ops.domain import DOMAIN, VERSION
from stts_export.parts import Part


ENTER, LEAVE, REPEAT = "Enter", "Leave", "Repeat"
"""Marks: in front of a traced block and behind it, and in the place of one that is not traced.

The inputs are what goes in or comes out, `PATH` is the block's, `LIKE` of `Repeat` that of the block it is like.
"""
PATH, LIKE = "path", "like"

TRACED = 2
"""How many of a kind are traced. What several blocks read, as constants, is made in the first; so the second is what
all further ones are like."""


@dataclass
class Kind:
    """Blocks that do the same with the same kinds of arguments, each with its own weights."""

    traced: list[str] = field(default_factory=list)  # paths
    # of what the last traced one returned: its structure, and dtype and shape of each tensor
    returned: tuple[TreeSpec, list[tuple[torch.dtype, torch.Size]]] | None = None


@contextmanager
def marked_blocks(part: Part) -> Iterator[None]:
    """Mark blocks of the part's module while it is traced inside the `with` block; see `ENTER` for the marks.

    A block is a member of an `nn.ModuleList`. Two are of a kind if their settings, the shapes of their weights and
    their arguments are alike, and what is no tensor among the arguments is the same object.
    """
    kinds: dict[Hashable, Kind] = {}
    blocks = repeatable_blocks(part)
    try:
        for path, block in blocks.items():
            block.__dict__["forward"] = marking(path, block.forward, settings(block), kinds)
        yield
    finally:
        for block in blocks.values():
            block.__dict__.pop("forward", None)


def repeatable_blocks(part: Part) -> dict[str, nn.Module]:
    """Return the members of module lists by path, but those that have more to themselves than weights.

    That is, buffers, weights that go by another name as well, or a tap inside.
    """
    weights = {name for name, _ in part.module.named_parameters()}
    lists = [(path, child) for path, child in part.module.named_modules() if isinstance(child, nn.ModuleList)]
    blocks = {f"{path}.{name}": block for path, members in lists for name, block in members.named_children()}
    return {
        path: block
        for path, block in blocks.items()
        if all(f"{path}.{name}" in weights for name, _ in block.named_parameters(remove_duplicate=False))
        and not list(block.buffers())
        and not any(tap.startswith(f"{path}.") for tap in part.spec.taps)
    }


def settings(module: nn.Module) -> Hashable:
    """Return all that a module's work depends on but the values of its weights; what cannot be compared is itself."""
    plain = [(name, value) for name, value in vars(module).items() if not name.startswith("_")]
    return (
        type(module),
        tuple((name, value if isinstance(value, Hashable) else id(value)) for name, value in plain),
        tuple((name, own.dtype, own.shape) for name, own in module.named_parameters(recurse=False)),
        tuple((name, settings(child)) for name, child in module.named_children()),
    )


def marking(
    path: str, forward: Callable[..., Any], settings: Hashable, kinds: dict[Hashable, Kind]
) -> Callable[..., Any]:
    """Return what takes the place of a block's `forward`: it with marks around, or a mark alone."""

    def marked(*arguments: Any, **named: Any) -> Any:
        leaves, structure = tree_flatten((arguments, named))
        places = [place for place, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)]
        given = [leaves[place] for place in places]
        kind = kinds.setdefault((settings, str(structure), *map(described, leaves)), Kind())
        if path not in kind.traced and len(kind.traced) < TRACED:
            kind.traced.append(path)
        if path not in kind.traced:
            assert kind.returned is not None
            outer, likes = kind.returned
            return tree_unflatten(mark(REPEAT, given, likes, {PATH: path, LIKE: kind.traced[-1]}), outer)
        for place, tensor in zip(places, mark(ENTER, given, typed(given), {PATH: path}), strict=True):
            leaves[place] = tensor
        arguments, named = tree_unflatten(leaves, structure)
        results, outer = tree_flatten(forward(*arguments, **named))
        kind.returned = outer, typed(results)
        return tree_unflatten(mark(LEAVE, results, typed(results), {PATH: path}), outer)

    return marked


def described(leaf: Any) -> Hashable:
    """Return what of an argument makes a block another kind: dtype and shape of a tensor, anything else as it is.

    Dynamic sizes are told apart by their examples, which differ. Their symbols would not do: the tracer gives each
    input its own, and finds out within the blocks which are one.
    """
    if not isinstance(leaf, torch.Tensor):
        return leaf
    return leaf.dtype, tuple(size if isinstance(size, int) else (size.node.hint,) for size in leaf.shape)


def typed(tensors: list[torch.Tensor]) -> list[tuple[torch.dtype, torch.Size]]:
    """Return dtype and shape of each of `tensors`."""
    return [(tensor.dtype, tensor.shape) for tensor in tensors]


def mark(
    name: str, given: list[torch.Tensor], likes: list[tuple[torch.dtype, torch.Size]], attributes: dict[str, str]
) -> list[torch.Tensor]:
    """Return the outputs of a mark, of the dtypes and shapes in `likes`."""
    return list(
        torch.onnx.ops.symbolic_multi_out(
            f"{DOMAIN}::{name}",
            given,
            attributes,  # type: ignore[arg-type]  # a dict of texts is one of texts and numbers
            dtypes=[dtype for dtype, _ in likes],
            shapes=[shape for _, shape in likes],
            version=VERSION,
        )
    )
