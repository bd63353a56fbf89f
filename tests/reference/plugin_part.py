"""A part with plugins as a CPU runs it: its graph in float32, each plugin replaced by its body."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir

from reference.toy_bundle import toy_checkpoint
from reference.toy_engine import Arrays
from stts_export import ops
from stts_export.bundle.weights import WeightWriter
from stts_export.graph.capture import Capture
from stts_export.graph.passes.expand_ops import ExpandOps
from stts_export.graph.passes.expand_plugins import AddPluginBodies
from stts_export.graph.passes.name_taps import NameTaps
from stts_export.graph.passes.use_plugins import UsePlugins
from stts_export.graph.write import write_graph
from stts_export.parts import Part
from stts_export.recipe.config import ModelConfig
from stts_runtime.engine import Engine
from stts_runtime.engine.ort import OnnxruntimeEngine


def plugin_engine(part: Part, config: ModelConfig, capture: Capture, folder: Path) -> Engine:
    """Return what runs a part of `toy_model(config)`; its graph is written to `folder`, which is made."""
    folder.mkdir()
    tensors = toy_checkpoint(config).tensors
    passes = ir.passes.Sequential(NameTaps(), ExpandOps(kept=ops.PLUGINS), UsePlugins(), AddPluginBodies())
    model = passes(capture(part)).model
    with WeightWriter(folder) as weights:
        write_graph(model, folder / "part.onnx", lambda name, how, dtype: weights.add(name, how, tensors[name], dtype))
    return OnnxruntimeEngine(folder / "part.onnx", part.spec, prepack=False)


def ran(engine: Engine, inputs: Arrays, like: Arrays) -> Arrays:
    """Return an engine's outputs, of the shapes in `like`."""
    outputs = {name: np.full(array.shape, -7, array.dtype) for name, array in like.items()}
    engine.run(inputs, outputs)
    return outputs
