"""Vision blocks after the prune, on packed patches, and the connector; called for some bins (or frames) at a time.

Packed first-fit-decreasing (`ffd`), as the authors do it:

| | name | shape | meaning |
|---|---|---|---|
| in | hidden | [A, N, D] float32 | of all frames of the clip, from vision_score |
| in | gather | [B, N] int64 | which of the A x N patches sits in each slot |
| in | segments | [B, N] int32 | frame of each slot, -1 where empty |
| in | readout | [K, n] int64 | slots of the n patches of each kept group |
| out | features | [K, sets * d_model] float32 | one row a kept group |

Packed end to end by the host's plan (`ragged`):

| | name | shape | meaning |
|---|---|---|---|
| in | hidden | [A, N, D] float32 | as above |
| in | gather | [M] int64 | which patch sits in each row |
| in | cumulative_lengths | [E] int64 | where each frame's rows begin and end; one more than frames |
| in | positions | [L] int64 | 0 to L - 1, L the longest frame |
| in | readout | [K, n] int64 | rows of the n patches of each kept group |
| out | features | [K, sets * d_model] float32 | one row a kept group |

Packed end to end on the device, with plugins:

| | name | shape | meaning |
|---|---|---|---|
| in | hidden | [A, N, D] float32 | as above |
| in | order | [K] int64 | groups that are packed, as frame * G + group, ascending: vision_select's, or a slice of it |
| in | cumulative_groups | [E] int64 | where each frame's groups begin and end in order; one more than frames |
| in | positions | [L] int64 | as above |
| out | features | [K, sets * d_model] float32 | one row a group |

The patches of a group lie side by side there, so that nothing is read out behind the last block but in order. All that
fits into a run's room is run at once, however many frames that is.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from stts_export.models.attention import Attend
from stts_export.models.model import Model
from stts_export.ops.pack_tokens.call import pack_tokens
from stts_export.ops.ragged_attention.call import ragged_attention
from stts_export.ops.segment_attention.call import segment_attention
from stts_export.parts.part import Part
from stts_export.recipe.config import ModelConfig
from stts_runtime.bundle.manifest import Limits
from stts_runtime.bundle.spec import ENGINE, Dim, GraphSpec, TensorSpec


class VisionEncode(nn.Module):
    """The tower's blocks after the prune and the connector; the subclasses say how patches are packed."""

    def __init__(self, model: Model, config: ModelConfig) -> None:
        super().__init__()
        self.vision_tower = model.vision_tower
        self.connector = model.connector
        self.tower, self.grid = config.tower, config.grid

    def tapped(self, packed: torch.Tensor, attend: Attend) -> torch.Tensor:
        """Return the tapped outputs side by side, [rows, taps * D], of packed patches [..., D]."""
        taps: dict[int, torch.Tensor] = {}
        for index in range(self.tower.first_packed_block, self.tower.blocks):
            packed = self.vision_tower.blocks[index](packed, attend)
            if index in self.tower.taps:
                taps[index] = packed.flatten(0, -2)
        return torch.cat([taps[index] for index in self.tower.taps], dim=-1)


class VisionEncodeFfd(VisionEncode):
    """On bins of N slots."""

    def forward(
        self, hidden: torch.Tensor, gather: torch.Tensor, segments: torch.Tensor, readout: torch.Tensor
    ) -> torch.Tensor:
        """Return features [K, sets * d_model]; see the table above."""
        packed = nn.functional.embedding(gather, hidden.flatten(0, 1))
        attend = partial(segment_attention, heads=self.tower.heads, segments=segments)
        return self.connector(self.tapped(packed, self.vision_tower.placed(attend, gather)), readout)


class VisionEncodeRagged(VisionEncode):
    """On rows laid end to end."""

    def forward(
        self,
        hidden: torch.Tensor,
        gather: torch.Tensor,
        cumulative_lengths: torch.Tensor,
        positions: torch.Tensor,
        readout: torch.Tensor,
    ) -> torch.Tensor:
        """Return features [K, sets * d_model]; see the table above."""
        packed = nn.functional.embedding(gather, hidden.flatten(0, 1))
        attend = partial(
            ragged_attention, heads=self.tower.heads, cumulative_lengths=cumulative_lengths, positions=positions
        )
        return self.connector(self.tapped(packed, self.vision_tower.placed(attend, gather)), readout)


class VisionEncodeOnDevice(VisionEncode):
    """On rows laid end to end, group by group, as they are packed on the device."""

    def forward(
        self,
        hidden: torch.Tensor,
        order: torch.Tensor,
        cumulative_groups: torch.Tensor,
        positions: torch.Tensor,
    ) -> torch.Tensor:
        """Return features [K, sets * d_model]; see the table above."""
        patches = self.grid.pool**2
        packed = pack_tokens(hidden, order, self.grid.pool, self.grid.columns)
        lengths = cumulative_groups * patches
        attend = partial(ragged_attention, heads=self.tower.heads, cumulative_lengths=lengths, positions=positions)
        groups = self.tapped(packed, self.vision_tower.placed(attend, order=order))
        groups = groups.unflatten(0, (order.shape[0], patches))
        return self.connector.features(groups)


def vision_encode_ffd_part(model: Model, config: ModelConfig, limits: Limits) -> Part:
    """Return the encoding part of a bundle packed first-fit-decreasing."""
    patches, chunk = config.grid.patches, limits.chunk_frames
    inputs = (
        TensorSpec("gather", "int64", ("B", patches)),
        TensorSpec("segments", "int32", ("B", patches)),
        TensorSpec("readout", "int64", ("K", config.grid.pool**2)),
    )
    spec = encode_spec(config, limits, inputs, (Dim("B", 1, chunk, chunk, "--chunk-frames"),))
    return Part(spec, VisionEncodeFfd(model, config))


def vision_encode_ragged_part(model: Model, config: ModelConfig, limits: Limits) -> Part:
    """Return the encoding part of a bundle packed end to end."""
    grid, chunk = config.grid, limits.chunk_frames
    inputs = (
        TensorSpec("gather", "int64", ("M",)),
        TensorSpec("cumulative_lengths", "int64", ("E",)),
        TensorSpec("positions", "int64", ("L",)),
        TensorSpec("readout", "int64", ("K", grid.pool**2)),
    )
    least = grid.pool**2
    dims = (
        Dim("M", least, chunk * grid.patches // 2, chunk * grid.patches, "--chunk-frames"),
        Dim("E", 2, chunk + 1, chunk + 1, "--chunk-frames"),
        Dim("L", least, grid.patches, grid.patches),
    )
    return Part(encode_spec(config, limits, inputs, dims), VisionEncodeRagged(model, config))


def vision_encode_on_device_part(model: Model, config: ModelConfig, limits: Limits) -> Part:
    """Return the encoding part of a bundle with plugins."""
    grid = config.grid
    inputs = (
        TensorSpec("order", "int64", ("K",)),
        TensorSpec("cumulative_groups", "int64", ("E",)),
        TensorSpec("positions", "int64", ("L",)),
    )
    dims = (
        Dim("E", 2, min(2 * limits.chunk_frames, limits.max_frames) + 1, limits.max_frames + 1, "--max-frames"),
        Dim("L", grid.pool**2, grid.patches, grid.patches),
    )
    return Part(encode_spec(config, limits, inputs, dims), VisionEncodeOnDevice(model, config))


def encode_spec(
    config: ModelConfig, limits: Limits, inputs: tuple[TensorSpec, ...], dims: tuple[Dim, ...]
) -> GraphSpec:
    """Return the spec that all share but for `inputs` and their `dims`."""
    grid, tower = config.grid, config.tower
    kept = limits.chunk_frames * grid.groups
    return GraphSpec(
        name="vision_encode",
        inputs=(
            TensorSpec("hidden", "float32", ("A", grid.patches, tower.width), ENGINE),
            *inputs,
        ),
        outputs=(TensorSpec("features", "float32", ("K", config.feature_width), ENGINE),),
        dims=(
            Dim("A", 1, min(64, limits.max_frames), limits.max_frames, "--max-frames"),
            *dims,
            Dim("K", 1, max(1, kept // 2), kept, "--chunk-frames"),
        ),
        values=(*(f"vision_tower.blocks.{i}" for i in range(tower.first_packed_block, tower.blocks)), "features"),
    )
