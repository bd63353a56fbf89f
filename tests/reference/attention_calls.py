"""The attention operators' cases as launches of their Triton kernels, run by the interpreter."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np

from reference.triton_interpreter import call_of, interpret
from stts_export.ops.ragged_attention.variants import variants as ragged_variants
from stts_export.ops.vision_prefix_attention.variants import variants as prefix_variants


DTYPES = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
VARIANTS = {variant.entry: variant for variant in (*ragged_variants(), *prefix_variants())}


def as_pointed_at(arrays, kind):
    """Return the float arrays among these in `kind`, bfloat16 by its bits: what a kernel's pointer points at."""
    return {
        name: array.astype(DTYPES[kind]).view(np.uint16 if kind == "bfloat16" else DTYPES[kind])
        if array.dtype == np.float32
        else array
        for name, array in arrays.items()
    }


def ragged_call(case, kind, **options):
    """Return the launch of a case; its output is `output`."""
    query, key, value, cumulative_lengths, _ = case.inputs
    rows, columns = query.shape
    heads = case.attributes["heads"]
    width = columns // heads
    variant = VARIANTS[f"ragged_attention_{kind}_{width}"]
    arrays = {"query": query, "key": key, "value": value, "cumulative_lengths": cumulative_lengths}
    frames = len(cumulative_lengths) - 1
    numbers = {"rows": rows, "frames": frames, "heads": heads, "scale": width**-0.5}
    grid = (rows // variant.tile + frames, heads, 1)
    return call_of(variant, grid, as_pointed_at(arrays, kind) | numbers, {"output": (rows, columns)}, **options)


def prefix_call(case, kind, span=None, **options):
    """Return the launch of a case; with `span` keys a part its outputs are for `join_call`."""
    query, key, value, positions, key_positions, vision_flags, rows, key_rows = case.inputs
    _, heads, new, width = query.shape
    kv_heads, keys = key.shape[1:3]
    arrays = {"query": query, "key": key, "value": value, "positions": positions, "key_positions": key_positions}
    arrays |= {"vision_flags": vision_flags.view(np.uint8), "rows": rows, "key_rows": key_rows}
    variant = VARIANTS[f"vision_prefix_attention_{'parts_' if span else ''}{kind}_{width}"]
    sharing = heads // kv_heads
    numbers = {"new": new, "past": keys - new, "sharing": sharing, "span": span or keys, "scale": width**-0.5}
    parts = math.ceil(keys / span) if span else 1
    outputs = {"output": query.shape, "log_sums": (0,)}
    if span:
        outputs = {"output": (parts, *query.shape[1:]), "log_sums": (parts, heads, new)}
    grid = (math.ceil(new * sharing / variant.tile), kv_heads, parts)
    return call_of(variant, grid, as_pointed_at(arrays, kind) | numbers, outputs, **options)


def join_call(kind, gathered, **options):
    """Return the launch that joins the parts `gathered` by a `prefix_call` with a span."""
    mixed, log_sums = gathered["output"], gathered["log_sums"]
    parts, heads, new, width = mixed.shape
    numbers = {"queries": heads * new, "parts": parts}
    variant = VARIANTS[f"join_parts_{kind}_{width}"]
    inputs = {"mixed": mixed, "log_sums": log_sums, **numbers}
    return call_of(variant, (heads * new, 1, 1), inputs, {"output": (1, heads, new, width)}, **options)


def outputs_of(calls, kind):
    """Return what each launch writes to `output`, float64."""
    return [as_numbers(result["output"], kind) for result in interpret(calls)]


def as_numbers(array, kind):
    """Return an output as float64, of bfloat16's bits where `kind` says so."""
    return array.view(DTYPES[kind]).astype(np.float64)
