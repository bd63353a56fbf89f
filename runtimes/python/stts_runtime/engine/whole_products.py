"""Products of 8-bit integers that come out right on every processor."""

from __future__ import annotations

from functools import cache
from typing import Any


PROBE = bytes.fromhex(
    "080a3a580a180a01780a0177120179220d4d61744d756c496e7465676572120167"
    "2a0f0804080110034201774a047f7f7f7f5a130a0178120e0a0c080212080a0208010a020804"
    "62130a0179120e0a0c080612080a0208010a02080142040a001014"
)
"""A graph in ONNX: y [1, 1] int32 = MatMulInteger(x [1, 4] uint8, four times 127 as int8)."""


@cache
def are_products_cut() -> bool:
    """Tell whether onnxruntime cuts off products of uint8 by int8 on this processor.

    Where x86-64 has AVX2 and no VNNI, its kernel adds pairs of them in 16 bits, and holds what is more at 32767.
    """
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(PROBE, options, providers=["CPUExecutionProvider"])
    (made,) = session.run(None, {"x": np.full((1, 4), 255, np.uint8)})
    return bool(made[0, 0] != 4 * 255 * 127)


def keep_products_whole(options: Any) -> None:
    """Have sessions with these `options` multiply 8-bit integers without loss.

    On a processor that cuts them off, onnxruntime then makes weights unsigned, which takes a copy of them and a slower
    kernel. It would do so on any other too, 2.5 times as slow, so it is asked only where there is need. This is a step
    in the rearranging of graphs: sessions that leave them as they are (`ORT_DISABLE_ALL`, `ORT_ENABLE_BASIC`) skip it
    without a word, so what they read has to be written with this setting.
    """
    if are_products_cut():
        options.add_session_config_entry("session.x64quantprecision", "1")
