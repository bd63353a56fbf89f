"""What a manifest may say: rules for its numbers, for what the runtime asks of each part, and for graph and spec.

The digest tells that nobody changed a manifest by accident, not that it makes sense. What passes here may be computed
with; an engine reads and writes as many bytes as the shapes say.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from stts_runtime.bundle.backend import BACKENDS
from stts_runtime.bundle.manifest import (
    FLOAT,
    KV_CACHES,
    MOST_CROPS,
    OPS,
    PACKINGS,
    POOLS,
    PRECISIONS,
    RESAMPLINGS,
    SAMPLINGS,
    SCORERS,
    TOWER_WEIGHTS,
    WEIGHTS,
    Cropping,
    Manifest,
)
from stts_runtime.bundle.plain import is_text, to_plain
from stts_runtime.bundle.spec import ENGINE, EXACT, HOST, Dim, GraphSpec
from stts_runtime.errors import BundleError


DTYPES = (*PRECISIONS, "int64", "int32", "int8", "bool")
DEVICES = ("cpu", "cuda")

Shape = tuple[int | str | None, ...]
"""Of a tensor in a part's contract or in a graph: None is any size."""

MOST_COUNTED = 1 << 20
"""Of what is counted in frames, tokens, pixels, layers and rows: far beyond any model."""

MOST_POSITIONS = 1 << 27
"""That a model was made for: likewise."""

LARGEST_IMAGE = 1 << 13
"""Of a side of a picture, in pixels."""


def check_manifest(manifest: Manifest, where: str) -> None:
    """Raise BundleError at the first entry that breaks a rule; `where` is the file, for the message."""
    for place, text in _leaves(to_plain(manifest), ""):
        _demand(_is_plain(text), where, place, text, "text in UTF-8, or a number of 64 bits")
    for place, value, fits, wanted in _rules(manifest):
        _demand(fits, where, place, value, wanted)
    for part, entry in manifest.graphs.items():
        for place, value, fits, wanted in _spec_rules(entry.spec, part):
            _demand(fits, where, f"graphs.{part}.spec.{place}", value, wanted)


def check_part(manifest: Manifest, part: str) -> None:
    """Raise BundleError unless the spec of a part takes and gives what the runtime feeds and reads.

    Parts that the runtime does not run itself may be anything.
    """
    spec = manifest.graphs[part].spec
    if (contract := _contract(manifest, part)) is None:
        return
    for kind, tensors, wanted in zip(("inputs", "outputs"), (spec.inputs, spec.outputs), contract, strict=True):
        got = {tensor.name: tensor for tensor in tensors}
        if strange := sorted(got.keys() ^ wanted.keys()):
            owner = "the manifest" if strange[0] in got else "this runtime"
            raise _misfit(part, f"only {owner} knows {strange[0]!r} among its {kind}")
        for name, (dtype, shape) in wanted.items():
            if got[name].dtype != dtype or not _matches(got[name].shape, shape):
                raise _misfit(
                    part, f"{name!r}: wanted {dtype} {list(shape)}, got {got[name].dtype} {list(got[name].shape)}"
                )
    if part == "vision_encode" and "vision_score" in manifest.graphs:
        hidden = spec.tensor("hidden").shape[1:]
        given = [one.shape[1:] for one in manifest.graphs["vision_score"].spec.outputs if one.name == "hidden"]
        if given != [hidden]:
            raise _misfit(part, f"'hidden': wanted what vision_score gives, {given}, got {list(hidden)}")
    if part == "vision_score" and spec.tensor("previous").shape != spec.tensor("last").shape:
        raise _misfit(part, "'previous' and 'last': wanted one shape")
    limits = manifest.limits
    needed = {"T": limits.chunk_frames, "B": limits.chunk_frames, "A": limits.max_frames, "P": limits.max_tokens}
    needed["R"] = limits.max_rows
    if part == "vision_image" and manifest.image is not None:
        needed["T"] = 1 + manifest.image.max_crops
    if manifest.engine.has_plugins and part in ("vision_select", "vision_encode"):
        # a run of vision_encode must hold a frame, since the first stays whole
        frames = limits.max_frames if part == "vision_select" else 1
        needed |= {"E": limits.max_frames + 1, "K": frames * manifest.grid.groups, "L": manifest.grid.patches}
    for dim in spec.dims:
        if dim.maximum < needed.get(dim.name, 0):
            raise _misfit(part, f"{dim.name} is at most {dim.maximum}, the limits want {needed[dim.name]}")


def check_parts(manifest: Manifest) -> None:
    """Raise BundleError unless all parts that a bundle of its pruning needs are there, and fit, see `check_part`."""
    select = ("vision_select",) if manifest.engine.has_plugins else ()
    pruned = () if manifest.pruning.is_dense else ("vision_score", *select, "vision_encode")
    together = ("decoder_rows",) if manifest.limits.max_rows > 1 else ()
    image = () if manifest.image is None else ("vision_image",)
    needed = ("decoder", *together, "vision_dense", *pruned, *image)
    for part in needed:
        if part not in manifest.graphs:
            raise BundleError(f"manifest.json: graphs: {part!r} is missing: build the bundle again")
        check_part(manifest, part)


def check_graph(
    spec: GraphSpec, inputs: Mapping[str, tuple[str, Shape]], outputs: Mapping[str, tuple[str, Shape]]
) -> None:
    """Raise BundleError unless a graph takes and gives what its spec says.

    Args:
        spec: from the manifest.
        inputs: of the graph: name -> dtype as specs name it, and shape with None or a symbol where it is dynamic.
        outputs: likewise.
    """
    for kind, tensors, has in (("input", spec.inputs, inputs), ("output", spec.outputs, outputs)):
        said = {tensor.name: tensor for tensor in tensors}
        if strange := sorted(said.keys() ^ has.keys()):
            owner = "the graph" if strange[0] in has else "the manifest"
            raise _misfit(spec.name, f"only {owner} has an {kind} {strange[0]!r}")
        for name, (dtype, shape) in has.items():
            tensor = said[name]
            if tensor.dtype != dtype or not _serves(tensor.shape, shape):
                raise _misfit(
                    spec.name,
                    f"{name!r} is {tensor.dtype} {list(tensor.shape)} there, {dtype} {list(shape)} in the graph",
                )


def _rules(m: Manifest) -> Iterator[tuple[str, object, bool, str]]:
    """Yield place, value, whether it fits, and what was wanted, for all that is no graph's."""
    grid, tokens, decoder, limits, engine = m.grid, m.tokens, m.decoder, m.limits, m.engine
    counts = {"grid": grid, "decoder": decoder, "limits": limits}
    for record, values in counts.items():
        for name, value in vars(values).items():
            if value is None or isinstance(value, (bool, str)):
                continue
            numbers = value if isinstance(value, tuple) else (value,)
            most = MOST_POSITIONS if name == "max_positions" else MOST_COUNTED
            fits = all(1 <= number <= most for number in numbers)
            yield f"{record}.{name}", value, fits, f"a whole number from 1 to {most}"
    yield "decoder.rope_axes", decoder.rope_axes, decoder.rope_axes in (1, 3), "1 or 3"
    yield (
        "grid.resampling",
        grid.resampling,
        grid.resampling in RESAMPLINGS,
        f"one of {RESAMPLINGS}; or upgrade stts-runtime",
    )
    yield "grid.image_size", grid.image_size, max(grid.size) <= LARGEST_IMAGE, f"at most {LARGEST_IMAGE}"
    side = grid.patch_size * grid.pool
    fits = not any(pixels % side for pixels in grid.size)
    yield "grid.image_size", grid.image_size, fits, f"a multiple of patch_size x pool, {side}"
    yield "limits.max_tokens", limits.max_tokens, limits.max_tokens > 1, "room for a question and an answer"
    pruning = m.pruning
    yield "pruning.fraction", pruning.fraction, 0 <= pruning.fraction < 1, "a fraction in [0, 1)"
    yield "pruning.scorer", pruning.scorer, pruning.scorer in (*SCORERS, "none"), f"one of {(*SCORERS, 'none')}"
    packings = ("none",) if pruning.is_dense else PACKINGS
    yield "pruning.packing", pruning.packing, pruning.packing in packings, f"one of {packings}"
    fits = not (pruning.is_dense and pruning.fraction)
    yield "pruning.fraction", pruning.fraction, fits, "0, as there is no scorer"
    trained = pruning.trained_fractions
    fits = trained is None or 0 <= trained[0] <= trained[1] < 1
    yield "pruning.trained_fractions", trained, fits, "the least and the greatest of fractions in [0, 1)"
    rows = decoder.vocabulary + _extra_vocabulary(m)
    for name, value in vars(tokens).items():
        if isinstance(value, int):
            yield f"tokens.{name}", value, 0 <= value < rows, f"a token id below {rows}"
    for index, value in enumerate(tokens.stop):
        yield f"tokens.stop[{index}]", value, 0 <= value < rows, f"a token id below {rows}"
    yield "prompt.user", m.prompt.user, m.prompt.user.count("{content}") == 1, "{content} once"
    yield "prompt.system", m.prompt.system, m.prompt.system.count("{video}") <= 1, "{video} at most once"
    yield "prompt.timestamp", m.prompt.timestamp, m.prompt.timestamp.count("{time}") == 1, "{time} once"
    if m.image is not None:
        yield from _image_rules(m.image, m)
    sampling = m.frame_sampling
    yield "frame_sampling.method", sampling.method, sampling.method in SAMPLINGS, f"one of {SAMPLINGS}"
    fits = 1 <= sampling.max_frames <= MOST_COUNTED
    yield "frame_sampling.max_frames", sampling.max_frames, fits, f"a whole number from 1 to {MOST_COUNTED}"
    fits = 1 <= sampling.min_frames <= sampling.max_frames
    yield "frame_sampling.min_frames", sampling.min_frames, fits, "a whole number from 1 to max_frames"
    fits = 1e-3 <= sampling.max_fps <= 1e3
    yield "frame_sampling.max_fps", sampling.max_fps, fits, "frames a second, from 0.001 to 1000"
    yield (
        "engine.backend",
        engine.backend,
        engine.backend in BACKENDS,
        f"one of {tuple(BACKENDS)}; or upgrade stts-runtime",
    )
    yield "engine.device", engine.device, engine.device in DEVICES, f"one of {DEVICES}"
    fits = engine.device == "cuda" or engine.backend == "onnxruntime"
    yield "engine.device", engine.device, fits, f"'cuda', as {engine.backend} wants a GPU"
    yield "engine.precision", engine.precision, engine.precision in PRECISIONS, f"one of {PRECISIONS}"
    yield "engine.ops", engine.ops, engine.ops in OPS, f"one of {OPS}; or upgrade stts-runtime"
    fits = not engine.has_plugins or (engine.backend != "onnxruntime" and pruning.packing != "ffd")
    yield "engine.ops", engine.ops, fits, "'portable', as plugins are TensorRT's and pack end to end"
    yield "engine.weights", engine.weights, engine.weights in WEIGHTS, f"one of {WEIGHTS}; or upgrade stts-runtime"
    fits = engine.tower_weights in TOWER_WEIGHTS
    yield "engine.tower_weights", engine.tower_weights, fits, f"one of {TOWER_WEIGHTS}; or upgrade stts-runtime"
    fits = engine.kv_cache in KV_CACHES
    yield "engine.kv_cache", engine.kv_cache, fits, f"one of {KV_CACHES}; or upgrade stts-runtime"
    for place, value in _leaves(to_plain(m.memory), "memory"):
        yield place, value, isinstance(value, int) and value >= 0, "bytes or a count, 0 or more"
    for place, value in _leaves(to_plain(m.target), "target"):
        fits = not isinstance(value, (int, float)) or 0 <= value < math.inf
        yield place, value, fits, "a number, 0 or more"
    for entry in m.files:
        yield f"files: {entry.path}", entry.size, entry.size >= 0, "bytes, 0 or more"


def _image_rules(image: Cropping, m: Manifest) -> Iterator[tuple[str, object, bool, str]]:
    fits = m.grid.rows == m.grid.columns and m.grid.frames == 1
    yield "image", "crops", fits, "a square grid of single frames"
    fits = 1 <= image.max_crops <= MOST_CROPS
    yield "image.max_crops", image.max_crops, fits, f"a whole number from 1 to {MOST_CROPS}"
    fits = min(image.overlap) >= 0 and sum(image.overlap) < m.grid.rows
    yield "image.overlap", image.overlap, fits, f"patches, fewer than a crop's side of {m.grid.rows}"
    yield "image.pool", image.pool, image.pool in POOLS, f"one of {POOLS}"
    ids = {name: value for name, value in vars(m.tokens).items() if "image" in name}
    yield "tokens", ids, None not in ids.values(), "every token of images, as there is `image`"


def _spec_rules(spec: GraphSpec, part: str) -> Iterator[tuple[str, object, bool, str]]:
    yield "name", spec.name, spec.name == part, f"the part's own, {part!r}"
    dims = {dim.name: dim for dim in spec.dims}
    names = Counter(tensor.name for tensor in (*spec.inputs, *spec.outputs))
    yield "dims", list(dims), len(dims) == len(spec.dims), "each symbol once"
    for kind, tensors in (("inputs", spec.inputs), ("outputs", spec.outputs)):
        yield kind, [], bool(tensors), "at least one tensor"
        for tensor in tensors:
            place = f"{kind}.{tensor.name}"
            yield place, tensor.name, bool(tensor.name) and names[tensor.name] == 1, "a name of its own"
            yield f"{place}.dtype", tensor.dtype, tensor.dtype in DTYPES, f"one of {DTYPES}"
            yield f"{place}.role", tensor.role, tensor.role in (HOST, ENGINE, EXACT), f"one of {(HOST, ENGINE, EXACT)}"
            fits = all(size in dims if isinstance(size, str) else size >= 1 for size in tensor.shape)
            yield f"{place}.shape", list(tensor.shape), fits, f"sizes of 1 or more, and symbols of {list(dims)}"
    for kind, ranges in (("dims", spec.dims), ("step", spec.step)):
        for dim in ranges:
            shown = [dim.minimum, dim.optimum, dim.maximum]
            yield f"{kind}.{dim.name}", shown, _is_range(dim), "0 <= minimum <= optimum <= maximum, at least 1"
    for dim in spec.step:
        wide = dims.get(dim.name)
        fits = wide is not None and wide.minimum <= dim.minimum and dim.maximum <= wide.maximum
        yield f"step.{dim.name}", [dim.minimum, dim.maximum], fits, "a symbol of dims, inside its range"
    yield (
        "step",
        [dim.name for dim in spec.step],
        len({dim.name for dim in spec.step}) == len(spec.step),
        "each symbol once",
    )


def _contract(m: Manifest, part: str) -> tuple[dict[str, tuple[str, Shape]], dict[str, tuple[str, Shape]]] | None:
    """Return inputs and outputs of a part that the runtime knows, name -> dtype and shape; None of one it does not."""
    grid, decoder, precision = m.grid, m.decoder, m.engine.precision
    patches: tuple[str, Shape] = ("float32", ("T", grid.patches, grid.patch_values))
    features: tuple[str, Shape] = (precision, ("K", decoder.feature_width))
    if part == "vision_dense":
        return {"patches": patches}, {"features": features}
    if part == "vision_image" and m.image is not None:
        return {"patches": patches, "readout": ("int64", ("K", m.image.pool**2))}, {"features": features}
    if part == "vision_score":
        state: tuple[str, Shape] = ("float32", (grid.groups, None))
        gate: dict[str, tuple[str, Shape]] = {"gate": ("float32", ("T",))} if m.pruning.soft_bias else {}
        return (
            {"patches": patches, "previous": state, **gate},
            {
                "hidden": (precision, ("T", grid.patches, None)),
                "scores": ("float32", ("T", grid.groups)),
                "last": state,
            },
        )
    if part == "vision_select":
        given: dict[str, tuple[str, Shape]] = {"scores": ("float32", ("A", grid.groups)), "kept": ("int64", ("K",))}
        return given, {"order": ("int64", ("K",)), "cumulative_groups": ("int64", ("E",))}
    if part == "vision_encode":
        hidden: tuple[str, Shape] = (precision, ("A", grid.patches, None))
        return {"hidden": hidden, **_packing_contract(m)}, {"features": features}
    if part == "decoder":
        flags: dict[str, tuple[str, Shape]] = {"past_vision_flags": ("bool", ("P",)), "vision_flags": ("bool", ("S",))}
        return (
            {
                "token_ids": ("int64", (1, "S")),
                "features": features,
                "feature_rows": ("int64", ("S",)),
                "positions": ("int64", ("S",)),
                "past_positions": ("int64", ("P",)),
                **({} if decoder.causal else flags),
                **({"rope_positions": ("int64", (3, "S"))} if decoder.rope_axes == 3 else {}),
                **_cache_contract(m, "past", 1, "P"),
            },
            {"logits": ("float32", (1, decoder.vocabulary)), **_cache_contract(m, "new", 1, "S")},
        )
    if part == "decoder_rows":
        return (
            {
                "token_ids": ("int64", ("R", 1)),
                "positions": ("int64", ("R",)),
                "past_positions": ("int64", ("R", "P")),
                **({"rope_positions": ("int64", ("R",))} if decoder.rope_axes == 3 else {}),
                **_cache_contract(m, "past", "R", "P"),
            },
            {"logits": ("float32", ("R", decoder.vocabulary)), **_cache_contract(m, "new", "R", 1)},
        )
    return None


def _cache_contract(m: Manifest, prefix: str, rows: int | str, slots: int | str) -> dict[str, tuple[str, Shape]]:
    """Return the tensors of a decoder that are keys and values, and what they are scaled by where they are rounded."""
    decoder, engine = m.decoder, m.engine
    is_rounded = engine.kv_cache != FLOAT
    dtype, held = engine.kv_cache if is_rounded else engine.precision, dict[str, tuple[str, Shape]]()
    for layer in range(decoder.layers):
        for kind in ("key", "value"):
            held[f"{prefix}_{kind}_{layer}"] = dtype, (rows, decoder.kv_heads, slots, decoder.head_dim)
            if is_rounded:
                held[f"{prefix}_{kind}_scales_{layer}"] = engine.precision, (rows, decoder.kv_heads, slots, 1)
    return held


def _packing_contract(m: Manifest) -> dict[str, tuple[str, Shape]]:
    """Return the inputs of vision_encode that say how patches are packed."""
    ends: dict[str, tuple[str, Shape]] = {"positions": ("int64", ("L",))}
    if m.engine.has_plugins:
        return {"order": ("int64", ("K",)), "cumulative_groups": ("int64", ("E",)), **ends}
    readout: dict[str, tuple[str, Shape]] = {"readout": ("int64", ("K", m.grid.pool**2))}
    if m.pruning.packing == "ffd":
        bins = ("B", m.grid.patches)
        return {"gather": ("int64", bins), "segments": ("int32", bins), **readout}
    return {"gather": ("int64", ("M",)), "cumulative_lengths": ("int64", ("E",)), **ends, **readout}


def _extra_vocabulary(m: Manifest) -> int:
    """Return how many rows beside the vocabulary the embedding has, which are read and never said."""
    decoder = m.model.get("decoder")
    extra = decoder.get("extra_vocabulary") if isinstance(decoder, dict) else None
    return extra if type(extra) is int and 0 <= extra <= MOST_COUNTED else 0


def _matches(shape: tuple[int | str, ...], wanted: Shape) -> bool:
    return len(shape) == len(wanted) and all(
        isinstance(got, int) if want is None else got == want for got, want in zip(shape, wanted, strict=True)
    )


def _serves(shape: tuple[int | str, ...], graph: Shape) -> bool:
    """Return whether a graph takes or gives a shape of its spec; a rank that it does not know is an empty shape."""
    fixed = [(got, want) for got, want in zip(shape, graph, strict=False) if isinstance(want, int)]
    return not graph or (len(shape) == len(graph) and all(got == want for got, want in fixed))


def _is_range(dim: Dim) -> bool:
    return 0 <= dim.minimum <= dim.optimum <= dim.maximum <= 1 << 31 and dim.maximum >= 1


def _leaves(data: Any, place: str) -> Iterator[tuple[str, object]]:
    """Yield the place and value of every scalar, and of every key, in plain data."""
    if isinstance(data, dict):
        for key, value in data.items():
            yield from _leaves(value, f"{place}.{key}" if place else key)
    elif isinstance(data, list):
        for index, value in enumerate(data):
            yield from _leaves(value, f"{place}[{index}]")
    else:
        yield place, data


def _is_plain(value: object) -> bool:
    if isinstance(value, str):
        return is_text(value)
    return not isinstance(value, int) or abs(value) < 1 << 63


def _demand(fits: bool, where: str, place: str, value: object, wanted: str) -> None:
    if not fits:
        shown = ascii(value)
        shown = shown if len(shown) <= 60 else shown[:57] + "..."
        raise BundleError(f"{where}: {ascii(place)[1:-1]}: wanted {wanted}, got {shown}: build the bundle again")


def _misfit(part: str, complaint: str) -> BundleError:
    return BundleError(f"graph {part!r} is not what the manifest says: {complaint}. Build the bundle again")
