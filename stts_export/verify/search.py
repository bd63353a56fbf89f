"""The piece of a graph between two layers, asked operator by operator."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from stts_export.graph.cut import makers
from stts_export.graph.passes.join_products import joined_names
from stts_export.verify.operators import Operators, WeightOf
from stts_export.verify.pieces import first_overflow, run_piece, save_piece
from stts_export.verify.reduced import GRAPH, Suspect
from stts_export.verify.stored_weights import TRANSPOSED, Reader
from stts_runtime.errors import VerificationError
from stts_runtime.verify.compare import compare_rows, failure
from stts_runtime.verify.polygraphy import INPUTS, OUTPUTS, command_line, write_inputs, write_outputs
from stts_runtime.verify.reference import RecordedRun, row_count
from stts_runtime.verify.report import PASSED, Comparison
from stts_runtime.verify.tolerances import Tolerance


class Search:
    """The piece of a graph between two layers, and what torch says of its values."""

    def __init__(
        self,
        model: ir.Model,
        root: Path,
        operators: Operators,
        run: RecordedRun,
        layer: str,
        tolerance: Tolerance,
        stored: Collection[str],
    ) -> None:
        """Find the piece.

        Args:
            model: the part's graph, as it runs on a CPU.
            root: the folder that its weights lie in.
            operators: of the part.
            run: in which it fails.
            layer: the first that departs.
            tolerance: what an operator is held to.
            stored: names of the nodes that the part's graph has as it is stored.
        """
        self._stored = stored
        self._model, self._root, self._operators, self._tolerance = model, root, operators, tolerance
        bindings = [value.binding for value in run.values]
        place = next(place for place, value in enumerate(run.values) if value.name == layer)
        agreeing = [name for name in bindings[:place] if name in operators.nodes]
        try:
            self._nodes = makers(model.graph, bindings[place], agreeing)
        except KeyError:
            raise VerificationError(
                f"graph {run.part!r} has no value {bindings[place]!r} to begin at: a pass renamed or dropped it"
            ) from None
        typed = {value.name: value for node in self._nodes for value in node.outputs if value.dtype is not None}
        self._names = [str(name) for name in typed if name in operators.nodes]
        self._borders: list[str] = []
        self._values: dict[str, NDArray] = {}  # torch's, of the borders and of what was asked

    def suspects(self, inputs: Mapping[str, NDArray], weight_of: WeightOf) -> list[Suspect]:
        """Return the operators of the piece, in the graph's order.

        Args:
            inputs: of the run, by name.
            weight_of: what torch computes with.

        Raises:
            EngineError: onnxruntime refuses a piece of the graph.
        """
        model, nodes = self._model, self._nodes
        given = {name for node in nodes for name in map(_name, node.inputs)}
        asked = dict.fromkeys([*(name for name in self._operators.nodes if name in given), *self._names])
        is_tensor = [name for name in asked if self._operators.is_tensor(name)]
        expected = {**inputs, **self._operators.values(is_tensor, inputs, weight_of)}
        names = [name for name in self._names if name in expected]
        whole = run_piece(model, self._root, nodes, (), names, expected)
        # what a pass gave another shape is no longer what torch calls so
        names = [name for name in names if whole[name].shape == expected[name].shape]
        if not names:
            raise VerificationError(
                f"graph {model.graph.name!r} has no value that torch knows by its name and shape, so there is nothing "
                "to compare: it was made by another version; build the bundle again"
            )
        alone = run_piece(model, self._root, nodes, names, names, expected)
        self._borders = [*names, *(name for name in expected if name not in self._names)]
        found = []
        for name in names:
            comparison = compared(name, expected[name], alone[name], self._tolerance)
            operator = str(self._operators.operator(name))
            made = makers(model.graph, name, self._borders)
            nodes_made = [str(node.name) for node in made]  # a plugin's are none of the stored graph
            as_stored = [one for one in nodes_made if one in self._stored] or nodes_made
            found.append(Suspect(name, operator, tuple(as_stored), comparison))
        self._values = expected
        return found

    def nodes_of(self, suspect: Suspect) -> list[ir.Node]:
        """Return the nodes of the graph that are an operator."""
        return makers(self._model.graph, suspect.value, self._borders)

    def overflow(self, suspect: Suspect) -> str:
        """Return which node of an operator makes NaN or infinity of finite numbers, or nothing."""
        return first_overflow(self._model, self._root, self.nodes_of(suspect), self._values)

    def save(self, folder: Path, suspect: Suspect) -> None:
        """Write an operator as a graph, with what goes in and what torch says comes out."""
        nodes = self.nodes_of(suspect)
        read = save_piece(self._model, self._root, nodes, suspect.value, self._values, folder / GRAPH)
        write_inputs(folder / INPUTS, [{name: self._values[name] for name in read}])
        write_outputs(folder / OUTPUTS, "torch", [{suspect.value: self._values[suspect.value]}])

    def command(self, folder: Path, suspect: Suspect) -> str:
        """Return the line that has Polygraphy compare the graph that `save` writes."""
        error = self._tolerance.relative * float(np.abs(self._values[suspect.value]).max(initial=0))
        return command_line(folder / GRAPH, folder, ["--onnxrt"], {suspect.value: error})


def error_of(comparison: Comparison) -> float:
    """Return the relative error of an operator; what could not be compared is worse than any."""
    if comparison.relative_error is None:
        return np.inf if comparison.failed else 0.0
    return comparison.relative_error


def compared(name: str, expected: NDArray[np.generic], got: NDArray[np.generic], tolerance: Tolerance) -> Comparison:
    """Return the comparison of a whole value; whole numbers and flags must be equal."""
    if not np.issubdtype(expected.dtype, np.floating):
        wrong = int((expected != got).sum())
        return failure(name, f"{wrong} of {got.size} differ") if wrong else Comparison(name, PASSED, relative_error=0.0)
    if not np.isfinite(expected).all() or expected.size == 0:
        return Comparison(name, PASSED, message="not compared: the model's own values are empty or not finite")
    magnitude = float(np.abs(expected).max())
    return compare_rows(name, as_rows(expected), as_rows(got), magnitude, tolerance)


def as_rows(array: NDArray[np.generic]) -> NDArray[np.float32]:
    """Return an array as rows [rows, D]; a single number is one row."""
    return array.reshape(row_count(array.shape), -1).astype(np.float32)


def wrong_weights(
    nodes: Sequence[ir.Node],
    own: Mapping[str, Reader],
    weights: Mapping[str, Reader] | None,
    tolerance: Tolerance,
) -> tuple[str, ...]:
    """Return the weights that `nodes` read and that differ from those given."""
    if weights is None:
        return ()
    read = dict.fromkeys(_name(value).removesuffix(TRANSPOSED) for node in nodes for value in node.inputs)
    names = [name for stored in read for name in joined_names(stored) if name in own and name in weights]
    exactly = replace(tolerance, cosine=-1.0)
    return tuple(
        name for name in names if compared(name, weights[name]().float().numpy(), own[name]().numpy(), exactly).failed
    )


def _name(value: ir.Value | None) -> str:
    return "" if value is None else str(value.name)
