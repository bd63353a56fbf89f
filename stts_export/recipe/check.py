"""What no model can have: values that are of the right type but cannot be, found before anything is built."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

from stts_export.errors import RecipeError
from stts_export.recipe.config import CONNECTORS, DecoderConfig, ModelConfig, TowerConfig, Yarn
from stts_export.recipe.findings import Finding, choice, refuse
from stts_runtime.bundle.backend import BACKENDS, ONNXRUNTIME
from stts_runtime.bundle.manifest import (
    MOST_CROPS,
    PACKINGS,
    POOLS,
    PRECISIONS,
    RESAMPLINGS,
    SAMPLINGS,
    SCORERS,
    Cropping,
    FrameSampling,
    Grid,
    Prompt,
    Tokens,
)
from stts_runtime.bundle.target import Target
from stts_runtime.device.jetpack import JETPACKS
from stts_runtime.language.prompt import IMAGE_MARKERS, MARKERS


QUERY_KEY_NORMS = ("none", "head", "full")
BLOCK_NORMS = ("pre", "post")
OLDEST_SM, NEWEST_SM = 50, 130
MOST_FRAMES, MOST_POSITIONS, MOST_ROWS, MOST_GIB = 1 << 20, 1 << 27, 1 << 24, 1 << 20
MOST = {
    **dict.fromkeys(("blocks", "layers"), 1000),
    **dict.fromkeys(("width", "heads", "kv_heads", "head_dim", "mlp_width"), 1 << 20),
    **dict.fromkeys(("image_size", "patch_size", "pool", "position_side"), 1 << 14),
    "frames": 1 << 6,
    **dict.fromkeys(("max_positions", "original_max_positions"), MOST_POSITIONS),
    "vocabulary": MOST_ROWS,
    "max_frames": MOST_FRAMES,
    "max_fps": 1000.0,
    "epsilon": 1.0,
}
"""Far beyond any model: larger numbers are slips of a key, and would be counted to, or taken memory for."""


def check_model(config: ModelConfig, where: str) -> None:
    """Raise RecipeError for the first impossible value of a model's configuration, read from the file `where`."""
    refuse(_model(config), where)


def check_vision(grid: Grid, tower: TowerConfig, where: str) -> None:
    """Raise RecipeError for the first impossible size of the vision tower or of its grid."""
    refuse(_vision(grid, tower), where)


def check_scorer_kind(kind: str, where: str) -> None:
    """Raise RecipeError where there is no such scorer."""
    refuse((_scorer_kind(kind),), where)


def check_decoder(decoder: DecoderConfig, where: str) -> None:
    """Raise RecipeError for the first impossible value of the language model's configuration."""
    refuse(_decoder(decoder), where)


def check_prune_fraction(fraction: float, scorer: str, where: str) -> None:
    """Raise RecipeError unless the fraction lies in [0, 1) and a scorer exists to choose what it prunes."""
    if not 0 <= fraction < 1:
        raise RecipeError(f"{where}: prune_fraction is {fraction}; wanted a number from 0 up to, not including, 1")
    if fraction > 0 and scorer == "none":
        raise RecipeError(
            f"{where}: prune_fraction is {fraction} but scorer.kind is 'none'; wanted 0, or a scorer that decides what "
            f"goes: {', '.join(SCORERS)}"
        )


def check_trained_fractions(fractions: tuple[float, float] | None, where: str) -> None:
    """Raise RecipeError unless the shares of groups that weights were trained to lose are a range in [0, 1)."""
    if fractions is not None and not 0 <= fractions[0] <= fractions[1] < 1:
        raise RecipeError(
            f"{where}: trained_fractions is {list(fractions)}; wanted the least and the greatest share, from 0 up to, "
            "not including, 1"
        )


def check_packing(packing: str, where: str) -> None:
    """Raise RecipeError where there is no such way to pack."""
    refuse((choice("packing", packing, PACKINGS),), where)


def check_target(target: Target, where: str) -> None:
    """Raise RecipeError for the first impossible value of a target, read from the recipe `where`."""
    refuse(_target(target), where)


def _target(target: Target) -> Iterator[Finding]:
    yield from _choices("backends", target.backends, tuple(BACKENDS))
    yield from _choices("precisions", target.precisions, PRECISIONS)
    capabilities, needs_gpu = target.compute_capabilities, set(target.backends) - {ONNXRUNTIME.name}
    wanted = f"at least one SM, such as 87, which {', '.join(sorted(needs_gpu))} builds for"
    yield "compute_capabilities", not needs_gpu or bool(capabilities), capabilities, wanted
    known = all(OLDEST_SM <= capability < NEWEST_SM for capability in capabilities)
    yield "compute_capabilities", known, capabilities, "SM versions such as 87 for 8.7"
    yield "compute_capabilities", len(set(capabilities)) == len(capabilities), capabilities, "each SM once"
    yield (
        "max_frames",
        0 < target.max_frames <= MOST_FRAMES,
        target.max_frames,
        f"a number above 0, at most {MOST_FRAMES:,}",
    )
    for key, most in (("memory_gib", MOST_GIB), ("bandwidth_gb_per_s", 1 << 30), ("max_tokens", MOST_POSITIONS)):
        value, wanted = getattr(target, key), f"a number above 0, at most {most:,}, or no such key where it differs"
        yield key, value is None or 0 < value <= most, value, wanted
    for field in fields(target.peak_tflops):
        peak = getattr(target.peak_tflops, field.name)
        yield f"peak_tflops.{field.name}", peak is None or 0 < peak < float("inf"), peak, "a number above 0"
    yield from _choices("jetpacks", target.jetpacks, tuple(jetpack.name for jetpack in JETPACKS), needed=False)


def _choices(key: str, values: tuple[str, ...], known: tuple[str, ...], needed: bool = True) -> Iterator[Finding]:
    yield key, bool(values) or not needed, values, f"at least one of {', '.join(known)}"
    yield key, len(set(values)) == len(values), values, "each name once"
    yield from (choice(key, value, known) for value in values)


def _model(config: ModelConfig) -> Iterator[Finding]:
    yield from _vision(config.grid, config.tower)
    kind, biased = config.scorer.kind, config.scorer.soft_bias
    yield _scorer_kind(kind)
    yield "scorer.soft_bias", not (biased and kind == "none"), biased, "false where there is no scorer"
    yield from _decoder(config.decoder)
    deep, layers = config.tower.feature_sets - 1, config.decoder.layers
    yield "tower.taps", deep <= layers, config.tower.taps, f"one, and at most one more a decoder layer ({layers})"
    yield from _tokens(config.tokens, config.decoder)
    yield from _prompt(config.prompt)
    yield from _sampling(config.frame_sampling)
    if config.resize is not None:
        yield from _positive("resize", config.resize, "min_pixels", "max_pixels", "max_frame_tokens")
    if config.image is not None:
        yield from _image(config.image, config)


def _positive(table: str, record: object, *keys: str) -> Iterator[Finding]:
    for key in keys:
        value, most = getattr(record, key), MOST.get(key, float("inf"))
        wanted = "a number above 0" + (f", at most {most:,}" if key in MOST else "")
        yield f"{table}.{key}", 0 < value <= most, value, wanted


def _scorer_kind(kind: str) -> Finding:
    return choice("scorer.kind", kind, (*SCORERS, "none"))


def _vision(grid: Grid, tower: TowerConfig) -> Iterator[Finding]:
    yield from _grid(grid)
    yield from _tower(tower)


def _grid(grid: Grid) -> Iterator[Finding]:
    yield from _positive("grid", grid, "patch_size", "pool", "frames")
    yield choice("grid.resampling", grid.resampling, RESAMPLINGS)
    most = MOST["image_size"]
    fits = all(0 < pixels <= most for pixels in grid.size)
    yield "grid.image_size", fits, grid.image_size, f"numbers above 0, at most {most:,}"
    side = grid.patch_size * grid.pool
    wanted = f"a multiple of patch_size * pool = {grid.patch_size} * {grid.pool} = {side}"
    if isinstance(grid.image_size, tuple):
        wanted += ", both height and width"
    yield "grid.image_size", not any(pixels % side for pixels in grid.size), grid.image_size, wanted


def _tower(tower: TowerConfig) -> Iterator[Finding]:
    yield from _positive("tower", tower, "width", "heads", "mlp_width", "blocks", "epsilon")
    yield "tower.heads", tower.width % tower.heads == 0, tower.heads, f"a divisor of tower.width = {tower.width}"
    last = tower.blocks - 2
    wanted = f"0 up to {last - 1}: of {tower.blocks} blocks, one comes before the soft bias's and one after it"
    yield "tower.score_after", 0 <= tower.score_after < last, tower.score_after, wanted
    yield "tower.taps", len(tower.taps) > 0, tower.taps, "at least one block"
    first = tower.first_packed_block
    for tap in tower.taps:
        wanted = f"blocks from {first} (behind the prune, score_after + 2) to {tower.blocks - 1} (the last)"
        yield "tower.taps", first <= tap < tower.blocks, tower.taps, wanted
    yield choice("tower.connector", tower.connector, CONNECTORS)
    if tower.position_side is not None:
        yield from _positive("tower", tower, "position_side")
    if tower.rope_theta is not None:
        yield from _positive("tower", tower, "rope_theta")
        head = tower.width // tower.heads
        wanted = f"a width of heads that is a multiple of 4, half of it for rows and half for columns, got {head}"
        yield "tower.heads", head % 4 == 0, tower.heads, wanted


def _decoder(decoder: DecoderConfig) -> Iterator[Finding]:
    sizes = ("layers", "width", "heads", "kv_heads", "head_dim", "mlp_width", "vocabulary", "max_positions")
    yield from _positive("decoder", decoder, *sizes, "rope_theta", "epsilon")
    extra = decoder.extra_vocabulary
    yield "decoder.extra_vocabulary", 0 <= extra <= MOST_ROWS, extra, f"0 or more rows, at most {MOST_ROWS:,}"
    kv_heads = decoder.kv_heads
    yield "decoder.kv_heads", decoder.heads % kv_heads == 0, kv_heads, f"a divisor of decoder.heads = {decoder.heads}"
    yield "decoder.head_dim", decoder.head_dim % 2 == 0, decoder.head_dim, "an even number: rope turns pairs"
    yield choice("decoder.query_key_norm", decoder.query_key_norm, QUERY_KEY_NORMS)
    yield choice("decoder.block_norm", decoder.block_norm, BLOCK_NORMS)
    if decoder.yarn is not None:
        yield from _yarn(decoder.yarn, decoder.layers)
    if (sections := decoder.rope_sections) is not None:
        planes = decoder.head_dim // 2
        wanted = f"planes of time, row and column that add up to head_dim / 2 = {planes}"
        yield "decoder.rope_sections", min(sections) > 0 and sum(sections) == planes, sections, wanted
        wanted = f"rows and columns in turns of three: at most {planes // 3} planes each"
        yield "decoder.rope_sections", max(sections[1:]) <= planes // 3, sections, wanted
        yield "decoder.yarn", decoder.yarn is None, decoder.yarn, "none with rope_sections"


def _yarn(yarn: Yarn, layers: int) -> Iterator[Finding]:
    yield from _positive("decoder.yarn", yarn, "original_max_positions", "beta_slow")
    yield "decoder.yarn.factor", yarn.factor >= 1, yarn.factor, "1 or more: it stretches"
    slow = yarn.beta_slow
    yield "decoder.yarn.beta_fast", yarn.beta_fast > slow, yarn.beta_fast, f"more than beta_slow = {slow}"
    fits = all(0 <= layer < layers for layer in yarn.layers)
    yield "decoder.yarn.layers", fits, yarn.layers, f"layers from 0 to {layers - 1}"


def _tokens(tokens: Tokens, decoder: DecoderConfig) -> Iterator[Finding]:
    rows = decoder.vocabulary + decoder.extra_vocabulary
    names = (*MARKERS, *IMAGE_MARKERS)
    markers = {name: value for name in names if (value := getattr(tokens, name)) is not None}
    for key, value in markers.items():
        yield f"tokens.{key}", 0 <= value < rows, value, f"an id from 0 to {rows - 1} (vocabulary + extra_vocabulary)"
    if tokens.low_res_image_start == tokens.image_start:  # the whole of an image may begin as its crops do
        markers.pop("low_res_image_start", None)
    yield "tokens", len(set(markers.values())) == len(markers), markers, f"{len(markers)} different ids"
    yield "tokens.bos", 0 <= tokens.bos < rows, tokens.bos, f"an id from 0 to {rows - 1}"
    stops = len(tokens.stop) > 0 and all(0 <= stop < decoder.vocabulary for stop in tokens.stop)
    yield "tokens.stop", stops, tokens.stop, f"at least one id, each from 0 to {decoder.vocabulary - 1}"


def _prompt(prompt: Prompt) -> Iterator[Finding]:
    places = prompt.user.count("{content}")
    yield "prompt.user", places == 1, prompt.user, "a text with {content} in it once, where video and question go"
    times = prompt.timestamp.count("{time}")
    yield "prompt.timestamp", times == 1, prompt.timestamp, "a text with {time} in it once, where a frame's seconds go"


def _image(image: Cropping, config: ModelConfig) -> Iterator[Finding]:
    crops, grid, side = image.max_crops, config.grid, config.grid.rows
    shape, fits = f"a table, with {grid}", grid.rows == grid.columns and grid.frames == 1
    yield "image", fits, shape, "none but with a square grid of single frames"
    yield "image.max_crops", 1 <= crops <= MOST_CROPS, crops, f"a number from 1 to {MOST_CROPS}"
    fits = min(image.overlap) >= 0 and sum(image.overlap) < side
    yield "image.overlap", fits, image.overlap, f"patches, fewer together than a crop's side of {side}"
    yield "image.pool", image.pool in POOLS, image.pool, f"one of {', '.join(map(str, POOLS))}"
    missing = [name for name in IMAGE_MARKERS if getattr(config.tokens, name) is None]
    yield "tokens", not missing, f"no {', '.join(missing)}", "every token of images, as there is a table image"


def _sampling(sampling: FrameSampling) -> Iterator[Finding]:
    yield choice("frame_sampling.method", sampling.method, SAMPLINGS)
    yield from _positive("frame_sampling", sampling, "max_frames", "max_fps", "min_frames")
    least, most = sampling.min_frames, sampling.max_frames
    yield "frame_sampling.min_frames", least <= most, least, f"at most max_frames = {most}"
