"""Whether decoding can begin at a packet: what a container's key flag promises, and H.264's and HEVC's bytes know."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


_H264_IDR, _H264_SEI, _H264_SLICES = 5, 6, (1, 2, 3, 4, 5)
_RECOVERY_POINT = 6
_HEVC_RANDOM_ACCESS = range(16, 22)  # BLA, IDR and CRA pictures
_HEVC_SLICES = range(32)


def can_start_at(packet: Any, codec: str, extradata: bytes | None) -> bool:
    """Tell whether what is shown from this packet on needs nothing before it.

    In H.264 that is an instantaneous refresh (IDR), or a recovery point that is exact at once (open groups of
    pictures); in HEVC any random access picture. Of other codecs the decoder itself says so of each frame.

    Args:
        packet: which the container calls a key.
        codec: FFmpeg's name of the codec.
        extradata: the decoder's configuration; says how NAL units are separated.
    """
    if codec not in ("h264", "hevc"):
        return True
    recovers = False
    for unit in nal_units(bytes(packet), codec, extradata or b""):
        if codec == "hevc":
            kind = unit[0] >> 1 & 0x3F
            if kind in _HEVC_SLICES:
                return kind in _HEVC_RANDOM_ACCESS
        else:
            kind = unit[0] & 0x1F
            if kind in _H264_SLICES:
                return kind == _H264_IDR or recovers
            if kind == _H264_SEI:
                recovers = recovers or recovers_at_once(unit[1:])
    return False


def nal_units(data: bytes, codec: str, extradata: bytes) -> Iterator[bytes]:
    """Yield the beginnings (64 bytes at most) of a packet's NAL units, whole if they are shorter."""
    place = 4 if codec == "h264" else 21
    if len(extradata) > place and extradata[0] == 1:  # avcC, hvcC: each unit has its length before it
        size, at = (extradata[place] & 3) + 1, 0
        while at + size < len(data):
            length = int.from_bytes(data[at : at + size], "big")
            unit = data[at + size : at + size + min(length, 64)]
            if not unit:
                return
            yield unit
            at += size + length
        return
    at = data.find(b"\0\0\1")  # else each has a start code before it
    while 0 <= at < len(data) - 3:
        yield data[at + 3 : at + 67]
        at = data.find(b"\0\0\1", at + 3)


def recovers_at_once(sei: bytes) -> bool:
    """Tell whether an H.264 SEI unit holds a recovery point after which every frame, at once, is exact."""
    data, at = sei.replace(b"\0\0\3", b"\0\0"), 0
    while at + 2 < len(data):
        kind, at = _sum_of_bytes(data, at)
        size, at = _sum_of_bytes(data, at)
        if kind == _RECOVERY_POINT:
            # recovery_frame_cnt = 0 is one bit, 1; behind it exact_match_flag
            return at < len(data) and data[at] >> 6 == 0b11
        at += size
    return False


def _sum_of_bytes(data: bytes, at: int) -> tuple[int, int]:
    """Return a number written as bytes of 255 and a last one below, and where what follows begins."""
    total = 0
    while at < len(data):
        total, at = total + data[at], at + 1
        if data[at - 1] != 255:
            break
    return total, at
