"""What a failing part was reduced to: plain data, and the words for it."""

from __future__ import annotations

from dataclasses import dataclass

from stts_runtime.verify.report import Comparison


GRAPH = "reduced.onnx"
BUNDLE, CHECKPOINT = "bundle", "checkpoint"


@dataclass(frozen=True)
class Suspect:
    """An operator, and how far what the graph makes of its exact inputs lies from what torch does."""

    value: str  # what graph and trace call the result
    operator: str  # torch's name, and where the model calls it
    nodes: tuple[str, ...]  # of the stored graph, in its order; of a plugin, those of its body
    comparison: Comparison


@dataclass(frozen=True)
class Reduced:
    """What a failing run was reduced to."""

    part: str
    run: str
    layer: str  # the first that departs
    part_nodes: int  # how many nodes the part's graph has
    compared: int  # operators that were asked one by one
    fault: Suspect | None  # the first operator that departs by itself; None if every one passes
    suspects: tuple[Suspect, ...]  # the largest errors, worst first
    reference_weights: str  # whose weights torch computed with: `bundle` or `checkpoint`
    weights: tuple[str, ...]  # that the faulty operator reads and that are not the checkpoint's; none without one
    overflow: str  # which node makes NaN or infinity of finite numbers; empty if none does
    folder: str  # where the graph lies, with its inputs and torch's results
    command: str  # has Polygraphy judge the graph

    @property
    def shown(self) -> Suspect:
        """The operator that was written as a graph: the faulty one, else the one with the largest error."""
        return self.fault or self.suspects[0]

    @property
    def verdict(self) -> str:
        """What was found, in one sentence."""
        if self.fault is not None:
            said = f"{self.part} departs at {self.fault.operator}: {self.fault.comparison.message}"
            because = [self.overflow] if self.overflow else []
            because += [f"its weight {name} is not the checkpoint's" for name in self.weights]
            return "; ".join((said, *because))
        hint = ""
        if self.reference_weights == BUNDLE:
            hint = ". Torch was given the bundle's own weights: if those are wrong, --checkpoint shows which"
        return (
            f"none of {self.compared} operators of {self.part} up to {self.layer} departs by itself; the largest "
            f"error, {self.shown.comparison.relative_error or 0:.1e} of the largest magnitude, is that of "
            f"{self.shown.operator}{hint}"
        )


def reduced_lines(found: Reduced | None, polygraphy: bool) -> list[str]:
    """Return what to print of it.

    Args:
        found: what was found; None where every layer agrees.
        polygraphy: whether it is installed.
    """
    if found is None:
        return ["nothing to reduce: every layer agrees"]
    nodes = found.shown.nodes
    hint = "" if polygraphy else " (not installed: pip install 'stts-export[debug]')"
    return [
        f"reduced: {found.verdict}",
        f"graph: {found.folder}/{GRAPH}, {len(nodes)} of {found.part_nodes} nodes: {' '.join(nodes)}",
        f"a second opinion, of Polygraphy{hint}:",
        f"  {found.command}",
    ]
