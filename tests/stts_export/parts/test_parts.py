"""The parts of each kind of bundle: their specs, and that torch runs them as the specs say."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from reference.toy_bundle import LIMITS, toy_config, toy_model

from stts_export.graph.capture import weightless_model
from stts_export.parts import parts_of
from stts_runtime.bundle import spec


KINDS = {
    "ffd": ("qwen3", "learned"),
    "ragged": ("olmo3", "cosine"),
    "none": ("llama", "none"),
    "plugins": ("olmo3", "cosine"),
}


def made(kind, config, limits=LIMITS):
    """The parts of a bundle of `KINDS`."""
    packing = "ragged" if kind == "plugins" else kind
    return parts_of(weightless_model(config), config, limits, packing, plugins=kind == "plugins")


@pytest.fixture(params=KINDS, scope="module")
def parts(request):
    config = toy_config(*KINDS[request.param])
    return request.param, config, made(request.param, config)


def test_a_bundle_has_the_parts_of_its_packing_in_data_flow_order(parts):
    kind, _, found = parts
    select = ["vision_select"] if kind == "plugins" else []
    pruned = [] if kind == "none" else ["vision_score", *select, "vision_encode"]
    assert [part.spec.name for part in found] == [*pruned, "vision_dense", "vision_image", "decoder"]


def test_a_model_that_knows_videos_only_has_no_part_for_images():
    config = replace(toy_config(*KINDS["none"]), image=None)
    assert [part.spec.name for part in made("none", config)] == ["vision_dense", "decoder"]


def test_a_bundle_that_decodes_several_together_has_a_part_more():
    config = toy_config(*KINDS["none"])
    *_, decoder, rows = made("none", config, replace(LIMITS, max_rows=4))
    assert (decoder.spec.name, rows.spec.name, rows.spec.dim("R").maximum) == ("decoder", "decoder_rows", 4)
    assert {name for name, _ in rows.module.named_parameters()} == {
        name for name, _ in decoder.module.named_parameters()
    }


def test_a_spec_has_a_range_for_every_symbol_and_unlike_names(parts):
    _, _, found = parts
    for part in found:
        tensors = (*part.spec.inputs, *part.spec.outputs)
        assert len({tensor.name for tensor in tensors}) == len(tensors)
        symbols = {size for tensor in tensors for size in tensor.shape if isinstance(size, str)}
        assert symbols == {dim.name for dim in part.spec.dims}
        for dim in part.spec.dims:
            assert 0 <= dim.minimum <= dim.optimum <= dim.maximum, dim


def test_every_symbol_is_in_the_legend_once_and_the_legend_has_no_other():
    legend = re.findall(r"^    ([A-Z])  ", spec.__doc__, re.M)
    used = set()
    for kind, names in KINDS.items():
        for part in made(kind, toy_config(*names), replace(LIMITS, max_rows=4)):
            used |= {dim.name for dim in part.spec.dims}
    assert sorted(legend) == sorted(used)


def test_every_role_is_known_and_floats_alone_change_precision(parts):
    _, _, found = parts
    for part in found:
        for tensor in (*part.spec.inputs, *part.spec.outputs):
            assert tensor.role in (spec.HOST, spec.ENGINE, spec.EXACT)
            assert tensor.role == spec.HOST or tensor.dtype == "float32", tensor


def test_a_limit_names_the_option_that_widens_it_and_none_where_the_model_decides(parts):
    kind, config, found = parts
    options = {(part.spec.name, dim.name): dim.option for part in found for dim in part.spec.dims}
    assert {place for place, option in options.items() if not option} <= {("vision_encode", "L")}
    for option, changed in (
        ("--max-tokens", replace(LIMITS, max_tokens=LIMITS.max_tokens + 7)),
        ("--max-frames", replace(LIMITS, max_frames=LIMITS.max_frames + 3)),
        ("--chunk-frames", replace(LIMITS, chunk_frames=LIMITS.chunk_frames + 1)),
    ):
        wider = made(kind, config, changed)
        grown = {
            (here.spec.name, dim.name)
            for here, there in zip(found, wider, strict=True)
            for dim in here.spec.dims
            if there.spec.dim(dim.name).maximum > dim.maximum
        }
        assert grown == {place for place, named in options.items() if named == option}


def test_a_decode_step_lies_within_the_decoders_ranges_and_no_other_part_has_one(parts):
    _, _, found = parts
    for part in found:
        assert bool(part.spec.step) == (part.spec.name == "decoder")
        for dim in part.spec.step:
            whole = part.spec.dim(dim.name)
            assert whole.minimum <= dim.minimum <= dim.optimum <= dim.maximum <= whole.maximum, dim


def test_a_step_reads_a_token_and_no_picture(parts):
    decoder = parts[2][-1].spec
    assert decoder.is_step({"S": 1, "K": 1, "P": 9})
    assert not decoder.is_step({"S": 1, "K": 2, "P": 9})
    assert not decoder.is_step({"S": 3, "K": 1, "P": 9})
    assert not parts[2][-2].spec.is_step({"T": 1, "K": 1})


def test_every_output_is_among_the_values_and_every_other_value_is_a_tap(parts):
    _, _, found = parts
    for part in found:
        outputs = [tensor.name for tensor in part.spec.outputs]
        assert set(outputs) <= set(part.spec.values)
        assert len(set(part.spec.values)) == len(part.spec.values) == len(outputs) + len(part.spec.taps)


def test_taps_are_submodules_in_data_flow_order(parts):
    _, _, found = parts
    for part in found:
        assert bool(part.spec.taps) == (part.spec.name != "vision_select")  # it is one operator
        for path in part.spec.taps:
            part.module.get_submodule(path)


def test_parameters_have_the_names_they_have_in_the_model(parts):
    _, config, found = parts
    known = set(dict(weightless_model(config).named_parameters()))
    for part in found:
        assert set(dict(part.module.named_parameters())) <= known


def test_the_gate_is_an_input_only_where_scores_bias_attention(parts):
    _, config, found = parts
    names = {tensor.name for part in found for tensor in part.spec.inputs}
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
