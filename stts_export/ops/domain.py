"""What all operators of the domain share: its name and version, and how their bodies mask a logit."""

from __future__ import annotations

from onnxscript import values


DOMAIN = "stts"
VERSION = 1
STTS = values.Opset(DOMAIN, VERSION)
MASKED = -30000.0
"""Far below any logit, and still a finite number in float16."""
