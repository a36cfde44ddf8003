"""Which pictures are read, told by the name or the first bytes of a file, and what to do with the files that are not.

Nothing here decodes: a file is only told from its first ``HEAD_BYTES`` bytes.
"""

from __future__ import annotations

from os.path import splitext

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM")
"""Pillow's names of the formats that every Pillow reads; no other parser sees bytes that do not promise one below."""
SUFFIXES = frozenset(
    (
        ".jpg .jpeg .jpe .jfif .png .webp .gif .bmp .dib .tif .tiff .ppm .pgm .pbm .pnm .pfm .jp2 .j2k .jpc .j2c .jpf "
        ".jpx .avif .heic .heif .hif"
    ).split()
)
"""File names that promise a picture. HEIC needs the extra ``heic``, JPEG 2000 and AVIF a Pillow that was built so."""
HEAD_BYTES = 512
"""Of a file whose name promises no picture, so many bytes are read: DICOM has its mark at byte 128, NIfTI at 344."""

_COMPANIONS = frozenset(
    ".txt .json .jsonl .xml .csv .tsv .md .rst .yaml .yml .toml .html .htm .db .ini .log .xmp .pp3 .aae .thm .md5 "
    ".sha1 .sha256 .py .ipynb .pyc .sh .bat .lnk .url .pbtxt .identifier".split()
)
COMPANION_NAMES = frozenset("readme license licence copying authors citation changelog notice icon\r makefile".split())
"""Names without suffix of notes about data."""
_UNFINISHED = frozenset(".download .crdownload .part .partial .opdownload .filepart .!ut .aria2 .tmp .td".split())
_BACKUP = frozenset(".bak .old .orig .save .swp".split())
_RAW = frozenset(".cr2 .cr3 .crw .nef .nrw .arw .srf .dng .orf .raf .rw2 .raw .pef .srw .x3f .3fr .erf".split())

DICOM = (
    "a DICOM file: convert it to PNG with a DICOM tool (dcm2img of DCMTK, or pydicom in Python), with the window that "
    "shows what matters"
)
UNFINISHED = "an unfinished download: fetch it again, or take the suffix off if the file is whole"
BACKUP = "a backup copy: delete it, or take the suffix off if it is a picture of its own"
RAW = "a raw file of a camera: develop it to JPEG or TIFF, for example with darktable"
_PAGE = "a web page, as a failed download leaves behind: fetch the picture again"
_POINTER = "a pointer of Git LFS, not the file itself: fetch it with git lfs pull"
_LINK_AS_TEXT = (
    "a link that was unpacked or copied as text: unpack the archive where links are kept, or copy the file it names"
)
_ARRAY = "a NumPy array: save its pictures as PNG, or load it and pass the array to open_data in Python"
_VOLUME = "a medical volume: save its slices as PNG, for example with nibabel or SimpleITK"
_DRAWING = "a drawing without pixels: save it as PNG, for example with Inkscape"
_LAYERS = "a file of a picture editor: save it as PNG"
_VIDEO = "a video: save its frames as JPEG, for example with ffmpeg"
_DOCUMENT = "a document: save its pages as PNG, for example with pdftoppm"
_ARCHIVE = "an archive: unpack it"
_CONTAINER = "a file of data, not a picture: save its pictures as PNG or JPEG"
_OTHER = "a picture in a format that is not read: save it as PNG or JPEG"

_BY_SUFFIX = {
    suffix: reason
    for reason, suffixes in {
        DICOM: ".dcm .dicom .ima",
        _ARRAY: ".npy .npz",
        _VOLUME: ".nii .mgz .mgh .nrrd .mha .mhd",
        _DRAWING: ".svg .svgz .eps .ai .emf .wmf",
        _LAYERS: ".psd .psb .xcf .kra .afphoto .ora",
        _VIDEO: ".mp4 .mov .avi .mkv .webm .m4v .mpg .mpeg .wmv .3gp .mts .flv",
        _DOCUMENT: ".pdf .doc .docx .ppt .pptx .odt .djvu",
        _ARCHIVE: ".zip .tar .gz .tgz .bz2 .xz .7z .rar",
        _CONTAINER: ".h5 .hdf5 .mat .pkl .pickle .pt .pth .tfrecord .tfrecords .lmdb .mdb .rec .parquet .arrow .bin",
        _OTHER: ".jxl .jxr .wdp .tga .ico .cur .icns .pcx .exr .hdr .dds .fits .fit .sgi .rgb .xbm .xpm .flif .bpg",
    }.items()
    for suffix in suffixes.split()
}
_BY_CONTENT = (
    (0, b"\x93NUMPY", _ARRAY),
    (344, b"n+1\0", _VOLUME),
    (0, b"NRRD", _VOLUME),
    (0, b"8BPS", _LAYERS),
    (0, b"gimp xcf", _LAYERS),
    (0, b"%PDF", _DOCUMENT),
    (0, b"%!PS", _DRAWING),
    (0, b"FUJIFILMCCD-RAW", RAW),
    (0, b"IIRO", RAW),
    (0, b"IIU\0", RAW),
    (0, b"PK\3\4", _ARCHIVE),
    (0, b"\x1f\x8b", _ARCHIVE),
    (0, b"Rar!", _ARCHIVE),
    (0, b"7z\xbc\xaf", _ARCHIVE),
    (257, b"ustar", _ARCHIVE),
    (0, b"\x1aE\xdf\xa3", _VIDEO),
    (0, b"\x89HDF", _CONTAINER),
    (0, b"\xff\x0a", _OTHER),
    (0, b"\0\0\0\x0cJXL ", _OTHER),
    (0, b"v/1\x01", _OTHER),
)
"""Place, bytes that stand there, and what such a file is."""

_HEIC_BRANDS = frozenset((b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"))
_JPEG_2000 = (b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")
_BMP_HEADERS = frozenset((12, 40, 52, 56, 64, 108, 124))
"""Sizes that the second header of a BMP file can have."""


def suffix_of(name: str) -> str:
    """Return the last suffix of a file name in lower case, or an empty string."""
    return splitext(name)[1].lower()  # noqa: PTH122  # a Path for each of 100,000 files takes longer than all else


def promises_picture(name: str) -> bool:
    """Tell by its name whether a file should be a picture."""
    return suffix_of(name) in SUFFIXES


def is_companion(name: str) -> bool:
    """Tell by its name a file that lies beside pictures and that nobody misses: notes, labels, thumbnails' indexes."""
    suffix = suffix_of(name)
    return suffix in _COMPANIONS or (not suffix and name.lower() in COMPANION_NAMES)


def reason_by_name(name: str) -> str | None:
    """Say why a file is not read whatever it holds: a part of a download, a backup, a camera's raw file; else None.

    Raw files often begin as a TIFF does, whose first picture is a thumbnail.
    """
    suffix = suffix_of(name)
    if suffix in _UNFINISHED:
        return UNFINISHED
    if suffix in _BACKUP or name.endswith(("~", "_original")):  # the latter by exiftool
        return BACKUP
    return RAW if suffix in _RAW else None


def format_of(head: bytes) -> str | None:
    """Tell by its first bytes which picture format a file has, of those that can be read; None if none.

    Source:
        The formats' specifications; for HEIC and AVIF the file type box of ISO/IEC 14496-12.
    """
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return "TIFF"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WebP"
    if head.startswith(b"BM") and int.from_bytes(head[14:18], "little") in _BMP_HEADERS:
        return "BMP"
    if (head[:1] == b"P" and head[1:2] in b"123456" and head[2:3].isspace()) or head[:3] in (b"Pf\n", b"PF\n"):
        return "PPM"
    return isolated_format(head)


def isolated_format(head: bytes) -> str | None:
    """Tell the formats that have a decoder of their own, which sees no other bytes: JPEG2000, AVIF or HEIC."""
    if head.startswith(_JPEG_2000):
        return "JPEG2000"
    if head[4:8] != b"ftyp":
        return None
    end = min(int.from_bytes(head[:4], "big"), len(head), HEAD_BYTES)
    brands = {head[8:12], *(head[at : at + 4] for at in range(16, end - 3, 4))}
    if brands & {b"avif", b"avis"}:
        return "AVIF"
    return "HEIC" if brands & _HEIC_BRANDS else None


def why_no_picture(head: bytes, name: str = "") -> str:
    """Say what a file without a picture is, and what to do with it, by its first bytes and then by its name."""
    if not head:
        return "the file is empty (0 bytes)"
    if head[128:132] == b"DICM":
        return DICOM
    found = next((reason for at, mark, reason in _BY_CONTENT if head[at : at + len(mark)] == mark), None)
    if found is not None:
        # a .npz is a zip, a .docx too: the name says more
        return _BY_SUFFIX.get(suffix_of(name.lower().removesuffix(".gz")), found) if found == _ARCHIVE else found
    if head[4:8] == b"ftyp" or (head.startswith(b"RIFF") and head[8:12] == b"AVI "):
        return RAW if head[8:11] == b"crx" else _VIDEO
    if is_text(head):
        return _why_text(head, name)
    return _BY_SUFFIX.get(suffix_of(name), "not a picture in any format that is read")


def is_text(head: bytes) -> bool:
    """Tell whether bytes hold no control characters but those of text."""
    return not any(byte < 9 or 13 < byte < 32 for byte in head[:HEAD_BYTES])


def _why_text(head: bytes, name: str) -> str:
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith(b"version https://git-lfs"):
        return _POINTER
    line = head.decode("latin-1").strip()
    if len(head) < HEAD_BYTES and "\n" not in line and "/" in line and promises_picture(line):
        return _LINK_AS_TEXT
    if b"<svg" in start:
        return _DRAWING
    if start.startswith((b"<!doctype html", b"<html")):
        return _PAGE
    return _BY_SUFFIX.get(suffix_of(name), "not a picture: its content is text")
