"""The order of the stages, from a request to a bundle; the one room that knows it."""

from stts_export.pipeline.build import build
from stts_export.pipeline.request import BuildRequest


__all__ = ["BuildRequest", "build"]
