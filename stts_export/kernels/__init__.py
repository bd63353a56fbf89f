"""Kernels for GPUs and the library that carries them: compiled here, on any machine, for devices elsewhere.

The sources lie in the operators' folders and in `runtimes/tensorrt`; this room finds compilers and headers, and says
what it made.
"""

SMS = (80, 86, 87, 89, 90, 100, 110, 120)
"""What kernels are compiled for where nobody says: A100, GeForce 30, Jetson Orin, L4 and GeForce 40, H100, B200, Jetson
Thor, GeForce 50."""
