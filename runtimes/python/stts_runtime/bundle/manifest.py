"""What `manifest.json` says, as plain data. Reading and checking it is `bundle`'s work."""

from __future__ import annotations

from dataclasses import dataclass

from stts_runtime.bundle.memory_needed import MemoryNeeded
from stts_runtime.bundle.spec import GraphSpec
from stts_runtime.bundle.target import Target


SCHEMA_VERSION = 10
OLDEST_SCHEMA = 3
"""That is still read: it had no `pruning.trained_fractions`, 4 had no `engine.ops`, 5 no `engine.weights`, 6 no
`source`, `grid.frames`, `tokens.texts`, `prompt.timestamp`, `prompt.between_frames` and `frame_sampling.min_frames`,
and square pictures only, 7 no `image`, 8 no `grid.resampling`, `decoder.feature_sets`, `decoder.causal`,
`decoder.rope_axes` and `decoder.max_positions`, 9 no `engine.kv_cache`, nor had any before; all else is as now."""
SCORERS = ("learned", "cosine", "random")
"""What may decide which groups go; a dense bundle's is `none`."""
PACKINGS = ("ffd", "ragged")
"""How kept patches may be packed; a dense bundle's are not: `none`."""
SAMPLINGS = ("uniform", "uniform_last_frame", "uniform_both_ends")
"""How the frames of a file may be chosen."""
OPS = ("portable", "plugin")
"""What graphs may be made of: standard operators alone, or TensorRT plugins of ours among them."""
PRECISIONS = ("float32", "float16", "bfloat16")
"""What weights and matrix products may be held in."""
FLOAT = "float"
WEIGHTS, TOWER_WEIGHTS = (FLOAT, "int8", "int4", "q4_1", "fp8", "nvfp4"), (FLOAT, "int8")
"""What the decoder's weights, and the tower's, may be stored in: floats of the precision, or numbers with scales."""
KV_CACHES = (FLOAT, "int8")
"""What keys and values may be kept in: floats of the precision, or numbers of 8 bits with a scale a token and head."""


@dataclass(frozen=True)
class FileEntry:
    """A file of the bundle: path relative to the bundle with forward slashes, size in bytes, SHA-256 in hex."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class GraphEntry:
    """A graph file and its contract."""

    file: str
    spec: GraphSpec


BILINEAR, BICUBIC = "bilinear", "bicubic"
RESAMPLINGS = (BILINEAR, BICUBIC)
"""How pictures may be resized: without antialiasing, or bicubically with it."""
ImageSize = int | tuple[int, int]
"""Pixels of a picture: a square's side, or height and width."""


def height_and_width(size: ImageSize) -> tuple[int, int]:
    """Return height and width of a picture of that size, in pixels."""
    return (size, size) if isinstance(size, int) else size


@dataclass(frozen=True)
class Grid:
    """How a frame, or frames that the tower sees as one, becomes patches and groups.

    Where `frames` is more than 1, what is called a frame everywhere behind the pixels (T, of scores, keep sets,
    budgets, chunks) is a temporal patch: so many frames, whose pixels at a place make one patch.

    Attributes:
        image_size: pixels after resizing, see `ImageSize` (378, or 288 high and 512 wide).
        patch_size: pixels a patch side (14).
        pool: patches a group side (3).
        frames: frames that make one temporal patch; 1 where each is seen by itself.
        resampling: one of `RESAMPLINGS`, by which pictures are resized.
    """

    image_size: ImageSize
    patch_size: int
    pool: int
    frames: int = 1
    resampling: str = BILINEAR

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the picture, in pixels."""
        return height_and_width(self.image_size)

    def temporal_patches(self, frames: int) -> int:
        """Return T, what so many frames are to the tower; the last one is repeated where it lacks some."""
        return -(-frames // self.frames)

    @property
    def rows(self) -> int:
        """Patches from top to bottom, 27 for Molmo2."""
        return self.size[0] // self.patch_size

    @property
    def columns(self) -> int:
        """Patches from left to right, 27 for Molmo2."""
        return self.size[1] // self.patch_size

    @property
    def patches(self) -> int:
        """N: patches a frame, 729 for Molmo2."""
        return self.rows * self.columns

    @property
    def patch_values(self) -> int:
        """P: values a patch, 588 for Molmo2: its frames, rows, columns and channels, in this order."""
        return self.frames * self.patch_size**2 * 3

    @property
    def group_rows(self) -> int:
        """Groups from top to bottom, 9 for Molmo2."""
        return self.rows // self.pool

    @property
    def group_columns(self) -> int:
        """Groups from left to right, 9 for Molmo2."""
        return self.columns // self.pool

    @property
    def groups(self) -> int:
        """G: groups a frame, 81 for Molmo2."""
        return self.group_rows * self.group_columns


@dataclass(frozen=True)
class Pruning:
    """How tokens are pruned.

    Attributes:
        fraction: default share of groups to drop, in [0, 1); 0 in a dense bundle.
        scorer: one of `SCORERS` (`cosine` is training-free), or `none` (a dense bundle).
        soft_bias: whether scores bias the attention of the block after scoring.
        packing: one of `PACKINGS`, or `none`.
        trained_fractions: least and greatest share of groups that the weights were trained to lose; None where nobody
            says, or nothing was trained.
    """

    fraction: float
    scorer: str
    soft_bias: bool
    packing: str
    trained_fractions: tuple[float, float] | None = None

    @property
    def is_dense(self) -> bool:
        """Whether nothing can be pruned, whatever a question asks for."""
        return self.scorer == "none"


@dataclass(frozen=True)
class Tokens:
    """Token ids with a meaning. `stop` ends an answer; `bos` starts the prompt; `texts` is how the tokenizer spells
    `image_patch`, `frame_start` and `frame_end`. Those of images are None where the model knows none; `image_column`
    ends a row of groups.
    """

    bos: int
    stop: tuple[int, ...]
    image_patch: int
    frame_start: int
    frame_end: int
    texts: tuple[str, str, str] = ("<im_patch>", "<frame_start>", "<frame_end>")
    image_start: int | None = None
    low_res_image_start: int | None = None
    image_column: int | None = None
    image_end: int | None = None

    @property
    def vision(self) -> tuple[int, ...]:
        """What stands for pictures and around them: these see each other in both directions."""
        images = (self.image_start, self.low_res_image_start, self.image_column, self.image_end)
        return (self.image_patch, self.frame_start, self.frame_end, *(one for one in images if one is not None))


@dataclass(frozen=True)
class Prompt:
    """The text around a question, with literal special tokens, as the model was trained on it.

    Attributes:
        system: put once before the first turn; may be empty. The video goes where it says `{video}`.
        user: one turn, with `{content}` where the question goes, after the video if `system` has no place for it.
        assistant: opens the answer.
        turn_end: closes the answer before the next turn.
        timestamp: put before each frame, with `{time}` where its seconds go.
        between_frames: put between a frame's end and the next one's timestamp.
    """

    system: str
    user: str
    assistant: str
    turn_end: str
    timestamp: str = "{time} "
    between_frames: str = " "


@dataclass(frozen=True)
class FrameSampling:
    """Which frames of a video are looked at.

    Attributes:
        method: `uniform` (transformers' Molmo2 processor), `uniform_last_frame` (Molmo2's authors) or
            `uniform_both_ends` (Qwen3-VL's processor).
        max_frames: most frames taken.
        max_fps: most frames a second taken.
        min_frames: fewest frames that `uniform_both_ends` takes of a video that has as many.
    """

    method: str
    max_frames: int
    max_fps: float
    min_frames: int = 1


@dataclass(frozen=True)
class Cropping:
    """How a single image is looked at: once as a whole, and in overlapping crops of the frames' size.

    Attributes:
        max_crops: most crops of an image, the whole one not counted.
        overlap: patches of a crop, at its left (or upper) and right (or lower) side, that its neighbours show too.
        pool: patches a group side, 1 or 2; groups are made over all crops put together.
        columns: whether each row of groups of the crops ends with a token.
        low_res_columns: whether each row of groups of the whole one does.
    """

    max_crops: int
    overlap: tuple[int, int]
    pool: int
    columns: bool = True
    low_res_columns: bool = False


MOST_CROPS = 128
"""Of an image: far beyond what any model was trained with."""
POOLS = (1, 2)
"""Patches along a side of an image's groups: see `readout_of` why no more."""


@dataclass(frozen=True)
class DecoderShape:
    """What the runtime must know of the decoder to feed it, hold its cache and sample its logits.

    Attributes:
        layers: of the cache.
        kv_heads: of the cache.
        head_dim: of the cache.
        vocabulary: logits a token.
        width: d_model.
        feature_sets: vectors of that width which a group is given, side by side.
        causal: whether no token sees a later one; else vision tokens see each other in both directions.
        rope_axes: positions by which a token is turned: 1, its place in the sequence, or 3, time, row and column.
        max_positions: that the model was made for; None where the bundle was built before it was told.
    """

    layers: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    width: int
    feature_sets: int = 1
    causal: bool = False
    rope_axes: int = 1
    max_positions: int | None = None

    @property
    def feature_width(self) -> int:
        """Values that a group is given."""
        return self.feature_sets * self.width


@dataclass(frozen=True)
class Limits:
    """What the bundle was built for: most frames of a clip (A), slots of the cache (P), frames a chunk (T), and
    conversations that are decoded together (R; 1 for one after the other). A frame is a temporal patch, see `Grid`.
    """

    max_frames: int
    max_tokens: int
    chunk_frames: int
    max_rows: int = 1


@dataclass(frozen=True)
class EngineSettings:
    """How the graphs are run.

    Attributes:
        backend: `onnxruntime`, `tensorrt` or `tensorrt_rtx`; the last two run engines built from the graphs.
        device: `cpu` or `cuda`.
        precision: what weights are stored and products computed in: `float32`, `float16` or `bfloat16`. Norms, softmax,
            scorer and logits are in float32 in each.
        prepack: onnxruntime on the CPU repacks weights at load time. It doubles the weights in memory and buys faster
            matrix products; large models switch it off so that their weights stay memory-mapped.
        ops: one of `OPS`. With `plugin` the bundle carries the library (`plugin_library`), and selects and packs on the
            device, end to end.
        weights: one of `WEIGHTS`. Rounded weights stand in the decoder's graph as numbers of so many bits; on a CPU
            what is multiplied with them is rounded to 8 bits when it is.
        tower_weights: one of `TOWER_WEIGHTS`, of the tower's blocks and the connector; never of the scorer.
        keep_float: patterns of names of weights that stayed floats all the same.
        kv_cache: one of `KV_CACHES`.
    """

    backend: str
    device: str
    precision: str
    prepack: bool
    ops: str = "portable"
    weights: str = FLOAT
    tower_weights: str = FLOAT
    keep_float: tuple[str, ...] = ()
    kv_cache: str = FLOAT

    @property
    def has_plugins(self) -> bool:
        """Whether the graphs hold TensorRT plugins of ours."""
        return self.ops == "plugin"

    @property
    def has_rounded_products(self) -> bool:
        """Whether products with rounded weights round what they are multiplied with, too."""
        return self.device == "cpu" and {self.weights, self.tower_weights} != {FLOAT}


def weights_line(engine: EngineSettings) -> str:
    """Return what weights are stored in, in a few words."""
    words = [f"decoder in {engine.precision if engine.weights == FLOAT else engine.weights}"]
    words.append(f"tower in {engine.precision if engine.tower_weights == FLOAT else engine.tower_weights}")
    if engine.kv_cache != FLOAT:
        words.append(f"keys and values in {engine.kv_cache}")
    if engine.keep_float:
        words.append(f"in {engine.precision} all the same: {' '.join(engine.keep_float)}")
    return ", ".join(words)


@dataclass(frozen=True)
class Source:
    """Where a bundle's weights came from.

    Attributes:
        kind: `checkpoint`, `assembled` (put together from a recipe) or `random`.
        license: of the weights, as a recipe or a hub's card says it; None where nobody does.
        repository: `ORG/NAME` on a hub; None for a folder of somebody's own.
        revision: the commit of that repository.
    """

    kind: str
    license: str | None = None
    repository: str | None = None
    revision: str | None = None


@dataclass(frozen=True)
class Manifest:
    """Everything the runtime knows of a bundle before it opens a graph."""

    schema_version: int
    name: str
    created_by: str
    target: Target
    grid: Grid
    pruning: Pruning
    tokens: Tokens
    prompt: Prompt
    frame_sampling: FrameSampling
    decoder: DecoderShape
    limits: Limits
    engine: EngineSettings
    graphs: dict[str, GraphEntry]
    tokenizer: str | None
    model: dict[str, object]
    memory: MemoryNeeded
    estimate: dict[str, object]
    notes: tuple[str, ...]
    files: tuple[FileEntry, ...]
    source: Source | None = None  # None where the bundle was built before it was told
    image: Cropping | None = None  # None: the bundle knows videos only

    @property
    def most_frames(self) -> int:
        """Frames that a clip may have: as many as make the temporal patches that the bundle was built for."""
        return self.limits.max_frames * self.grid.frames
