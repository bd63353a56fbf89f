"""WAD files and maps have the form that engines read."""

import struct

from stts_export.data.domains.wad import Placed, Room, map_text, write_wad


ROOM = Room(((-64, -64), (-64, 64), (64, 64), (64, -64)), (), ("BRICK1",) * 4, "STONE", "FLAT1", "F_SKY1", 128, 200)


def test_lumps_lie_where_the_directory_says(tmp_path):
    path = tmp_path / "a.wad"
    write_wad(path, [("MAP01", ""), ("TEXTMAP", "text"), ("ENDMAP", "")])
    data = path.read_bytes()
    magic, count, directory = struct.unpack_from("<4sii", data)
    assert (magic, count) == (b"PWAD", 3)
    lumps = [struct.unpack_from("<ii8s", data, directory + 16 * index) for index in range(count)]
    assert [name.rstrip(b"\0") for _, _, name in lumps] == [b"MAP01", b"TEXTMAP", b"ENDMAP"]
    offset, size, _ = lumps[1]
    assert data[offset : offset + size] == b"text"


def test_a_room_is_one_sector_walled_all_round():
    pillar = ((0, 0), (10, 0), (10, 10), (0, 10))
    text = map_text(Room(**{**vars(ROOM), "pillars": (pillar,)}), [Placed(1, 5, 6, -90, 2.5, (7, 8))])
    assert text.count("vertex {") == text.count("linedef {") == text.count("sidedef {") == 8
    assert text.count("sector {") == 1
    assert "v1=7; v2=4;" in text
    assert "thing { x=5.000; y=6.000; height=2.5; angle=270; type=1; arg0=7; arg1=8;" in text
