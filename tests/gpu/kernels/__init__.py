"""The kernels of the plugins, launched by the CUDA driver without TensorRT: held against float64, timed, compared.

This file imports nothing: the Python that only starts the steps reads it too.
"""

OPERATORS = (
    "group_pool",
    "group_score",
    "select_groups",
    "pack_tokens",
    "ragged_attention",
    "vision_prefix_attention",
)
"""The operators that have kernels, by their folders."""

COMPARED = ("ragged_attention", "vision_prefix_attention", "tower")
"""What is set beside torch."""
