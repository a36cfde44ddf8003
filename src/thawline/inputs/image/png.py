"""PNG files whose texts are longer than Pillow reads."""

from __future__ import annotations

import struct

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_TEXTS = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")


def without_texts(data: bytes) -> bytes | None:
    """Leave out texts and the colour profile, none of which changes a pixel here; None if there are none.

    Pillow refuses a whole file because of one text of more than a megabyte, so as not to fall for one that
    decompresses to gigabytes. Its limits belong to the whole process, hence the file is changed, not these. A short
    profile of EXIF, which may say how to turn the picture, stays if there is anything else to leave out.
    """
    if not data.startswith(_SIGNATURE):
        return None
    return _without(data, keep_exif=True) or _without(data, keep_exif=False)


def _without(data: bytes, *, keep_exif: bool) -> bytes | None:
    kept, at, dropped = [_SIGNATURE], len(_SIGNATURE), False
    while at + 12 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        is_exif = length < 65536 and data[at + 8 : at + 8 + 16] == b"Raw profile type"
        if name in _TEXTS and not (keep_exif and is_exif):
            dropped = True
        else:
            kept.append(data[at:end])
        at = end
    return b"".join([*kept, data[at:]]) if dropped else None
