"""How far our torch models may lie from what their authors recorded, both in float32.

Errors are relative to the largest magnitude of the tensor that is compared. What engines are held to is in
`stts_runtime.verify.tolerances`.
"""

from __future__ import annotations


VALUE_TOLERANCE = 5e-5

GRADIENT_TOLERANCE = 2e-4
"""Gradients sum over more terms."""
