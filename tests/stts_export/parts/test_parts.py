"""The parts of each kind of bundle: their specs, and that torch runs them as the specs say."""

import numpy as np
import pytest
import torch
from reference.toy_bundle import LIMITS, toy_config, toy_model

from stts_export.graph.capture import weightless_model
from stts_export.parts import parts_of


KINDS = {"ffd": ("qwen3", "learned"), "ragged": ("olmo3", "cosine"), "none": ("llama", "none")}


@pytest.fixture(params=KINDS, scope="module")
def parts(request):
    config = toy_config(*KINDS[request.param])
    return request.param, config, parts_of(weightless_model(config), config, LIMITS, request.param)


def test_a_bundle_has_the_parts_of_its_packing_in_data_flow_order(parts):
    packing, _, found = parts
    pruned = [] if packing == "none" else ["vision_score", "vision_encode"]
    assert [part.spec.name for part in found] == [*pruned, "vision_dense", "decoder"]


def test_a_spec_has_a_range_for_every_symbol_and_unlike_names(parts):
    _, _, found = parts
    for part in found:
        tensors = (*part.spec.inputs, *part.spec.outputs)
        assert len({tensor.name for tensor in tensors}) == len(tensors)
        symbols = {size for tensor in tensors for size in tensor.shape if isinstance(size, str)}
        assert symbols == {dim.name for dim in part.spec.dims}
        for dim in part.spec.dims:
            assert 0 <= dim.minimum <= dim.optimum <= dim.maximum, dim


def test_taps_are_submodules_in_data_flow_order(parts):
    _, _, found = parts
    for part in found:
        assert part.spec.taps
        for path in part.spec.taps:
            part.module.get_submodule(path)


def test_parameters_have_the_names_they_have_in_the_model(parts):
    _, config, found = parts
    known = set(dict(weightless_model(config).named_parameters()))
    for part in found:
        assert set(dict(part.module.named_parameters())) <= known


@pytest.mark.parametrize("packing", ["ffd", "ragged", "none"])
def test_the_gate_is_an_input_only_where_scores_bias_attention(packing):
    config = toy_config(*KINDS[packing])
    names = {
        tensor.name
        for part in parts_of(weightless_model(config), config, LIMITS, packing)
        for tensor in part.spec.inputs
    }
    assert ("gate" in names) == config.scorer.soft_bias


def test_torch_runs_a_part_on_the_specs_inputs_and_gives_its_outputs():
    config = toy_config("qwen3", "learned")
    for part in parts_of(toy_model(config), config, LIMITS, "ffd"):
        sizes = {dim.name: max(1, dim.minimum) for dim in part.spec.dims} | {"P": 2, "S": 2}
        if part.spec.name == "vision_dense":
            sizes["K"] = config.grid.groups

        def shape(tensor, sizes=sizes):
            return [size if isinstance(size, int) else sizes[size] for size in tensor.shape]

        inputs = [torch.zeros(shape(tensor), dtype=getattr(torch, tensor.dtype)) for tensor in part.spec.inputs]
        outputs = part.module(*inputs)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        for tensor, output in zip(part.spec.outputs, outputs, strict=True):
            assert list(output.shape) == shape(tensor), (part.spec.name, tensor.name)
            assert output.numpy().dtype == np.dtype(tensor.dtype)
