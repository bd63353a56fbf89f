"""Run a bundle to see what becomes of it: what it prunes from a video, what TensorRT makes of its graphs."""
