"""Time a bundle on this device: dense against pruned in one run, with what only fresh processes show."""

from stts_runtime.bench.compare import bench


__all__ = ["bench"]
