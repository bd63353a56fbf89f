"""Graphs to TensorRT engines: all that knows TensorRT's Python API, from 8.6 to 11 and TensorRT-RTX.

    onnx_file   what a graph file holds, read without the onnx package
    bindings    the installed module and its version
    dialect     the differences between the versions, and nothing else
    profiles    GraphSpec -> the shapes an engine is tuned for
    parse       ONNX file -> network, checked against the GraphSpec before anything is built
    messages    what TensorRT says, collected for our errors
    progress    what it says of its progress
    engine_file one engine, in a process of its own (`child`)

Polygraphy does the loading of ONNX files, profiles and timing caches too, and was left out here: the light install on a
device must not need it, it has no child process, no progress and no memory check, it reports a parser error without the
node's name on 8.6, and what is left is the twenty lines of `child.py`. It serves for looking at an engine by hand:
`POLYGRAPHY_USE_TENSORRT_RTX=1 polygraphy inspect ...`.
"""
