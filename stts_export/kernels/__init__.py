"""Kernels for GPUs and the library that carries them: compiled here, on any machine, for devices elsewhere.

The sources lie in the operators' folders and in `runtimes/tensorrt`; this room finds compilers and headers, and says
what it made.
"""
