"""Sound pixels survive broken metadata, as a second decoder reads them; broken pixels are refused."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from test_fast import exif, picture
from test_modes import chunk

from lsncli.images import metadata
from lsncli.images.decode import decode
from lsncli.images.fast_decode import fast_decoder
from lsncli.images.metadata import MAX_CHUNKS, strip_metadata
from lsncli.images.pixel_modes import TURNS
from lsncli.images.read import Undecodable

cv2 = pytest.importorskip("cv2")

IMAGE = picture(24, 40)
JUNK = np.random.default_rng(0).integers(0, 256, 3000, dtype=np.uint8).tobytes()


def encoded(kind: str, image: Image.Image = IMAGE, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def inserted(data: bytes, *parts: bytes, at: int) -> bytes:
    return data[:at] + b"".join(parts) + data[at:]


PNG = encoded("PNG")
JPEG = encoded("JPEG", quality=90)
WEBP = encoded("WEBP", lossless=True)
TIFF = encoded("TIFF")
LZW = encoded("TIFF", compression="tiff_lzw")
GIF = encoded("GIF", IMAGE.quantize(64))
AFTER_HEADER = 33
"""Where the chunks of a PNG follow its first."""


def bad_checksum(kind: bytes, body: bytes) -> bytes:
    return chunk(kind, body)[:-4] + b"\0\0\0\0"


def text_of(size: int) -> bytes:
    return zlib.compress(bytes(size), 9)


PNG_CHUNKS = {
    "zTXt above Pillow's limit": chunk(b"zTXt", b"k\0\0" + text_of(1 << 22)),
    "zTXt of an unknown compression": chunk(b"zTXt", b"k\0\7" + text_of(9)),
    "iTXt above Pillow's limit": chunk(b"iTXt", b"k\0\1\0\0\0" + text_of(1 << 22)),
    "texts above Pillow's memory": chunk(b"zTXt", b"k\0\0" + text_of(1 << 20)) * 65,
    "tEXt with a wrong checksum": bad_checksum(b"tEXt", b"k\0v"),
    "iCCP above Pillow's limit": chunk(b"iCCP", b"p\0\0" + text_of(1 << 22)),
    "iCCP of an unknown compression": chunk(b"iCCP", b"p\0\7" + text_of(9)),
    "iCCP without a name": chunk(b"iCCP", b""),
    "iCCP with a wrong checksum": bad_checksum(b"iCCP", JUNK),
    "eXIf with a wrong checksum": bad_checksum(b"eXIf", exif(6)[6:]),
    "eXIf of junk": chunk(b"eXIf", JUNK),
    "gAMA cut short": chunk(b"gAMA", b"\0"),
    "cHRM cut short": chunk(b"cHRM", b"\0"),
    "pHYs cut short": chunk(b"pHYs", b"\0"),
    "sRGB cut short": chunk(b"sRGB", b""),
    "acTL cut short": chunk(b"acTL", b"\0"),
    "an unknown chunk with a wrong checksum": bad_checksum(b"prVt", JUNK),
}


def segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


JPEG_SEGMENTS = {
    "EXIF of junk": segment(0xE1, b"Exif\0\0" + JUNK),
    "EXIF with a resolution that is no number": segment(
        0xE1, b"Exif\0\0II*\0" + struct.pack("<IHHHIIHHII", 8, 2, 0x128, 3, 1, 2, 0x11A, 5, 1, 9999)
    ),
    "XMP of junk": segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + JUNK),
    "ICC without numbers": segment(0xE2, b"ICC_PROFILE\0"),
    "ICC of junk": segment(0xE2, b"ICC_PROFILE\0\7\3" + JUNK),
    "MPF of junk": segment(0xE2, b"MPF\0" + JUNK),
    "MPF cut short": segment(0xE2, b"MPF\0II*\0" + struct.pack("<IH", 8, 1)),
    "Photoshop without a name": segment(0xED, b"Photoshop 3.0\x008BIM\4\4"),
    "Photoshop of junk": segment(0xED, b"Photoshop 3.0\x008BIM" + JUNK),
    "JFIF cut short": segment(0xE0, b"JFIF"),
    "Adobe cut short": segment(0xEE, b"Adobe"),
    "a comment of nothing": segment(0xFE, b""),
}


def webp(*chunks: tuple[bytes, bytes], flags: int = 0x2C, cut: int = 0) -> bytes:
    """WEBP in the extended form, with chunks behind the pixels."""
    head = (
        bytes([flags, 0, 0, 0])
        + (IMAGE.width - 1).to_bytes(3, "little")
        + (IMAGE.height - 1).to_bytes(3, "little")
    )
    body = b"WEBP" + b"".join(
        kind + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)
        for kind, content in [
            (b"VP8X", head),
            (b"VP8L", WEBP[20 : 20 + int.from_bytes(WEBP[16:20], "little")]),
            *chunks,
        ]
    )
    return (b"RIFF" + struct.pack("<I", len(body)) + body)[: len(body) + 8 - cut]


WEBPS = {
    "EXIF of junk": webp((b"EXIF", JUNK)),
    "EXIF of nothing": webp((b"EXIF", b"")),
    "EXIF cut short": webp((b"EXIF", JUNK), cut=500),
    "XMP cut short": webp((b"XMP ", JUNK), cut=1),
    "an unknown chunk cut short": webp((b"ABCD", JUNK), cut=9),
}


def tagged(data: bytes, *tags: tuple[int, int, int, int]) -> bytes:
    """A little-endian TIFF with more tags: number, type, count, value or offset."""
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    entries = [data[start + 2 + 12 * n : start + 14 + 12 * n] for n in range(count)]
    new = {tag[0] for tag in tags}
    kept = [entry for entry in entries if struct.unpack_from("<H", entry)[0] not in new]
    entries = sorted([*kept, *(struct.pack("<HHII", *tag) for tag in tags)], key=lambda e: e[1::-1])
    added = struct.pack("<H", len(entries)) + b"".join(entries)
    data += b"\0" * (len(data) % 2)
    return data[:4] + struct.pack("<I", len(data)) + data[8:] + added


ICC, EXIF_DIRECTORY, GPS, DESCRIPTION, X_RESOLUTION = 34675, 34665, 34853, 270, 282
FAR = 1 << 30
TIFF_TAGS: dict[str, list[tuple[int, int, int, int]]] = {
    "an EXIF directory beyond the file": [(EXIF_DIRECTORY, 4, 1, FAR)],
    "an EXIF directory of pixels": [(EXIF_DIRECTORY, 4, 1, 40)],
    "an EXIF directory that is a text": [(EXIF_DIRECTORY, 2, 4, 0x61616161)],
    "GPS beyond the file": [(GPS, 4, 1, FAR)],
    "a colour profile beyond the file": [(ICC, 7, 5000, FAR)],
    "a colour profile larger than the file": [(ICC, 7, FAR, 8)],
    "a description of no type": [(DESCRIPTION, 99, 5000, 8)],
    "a description larger than the file": [(DESCRIPTION, 2, FAR, 8)],
    "a resolution by zero": [(X_RESOLUTION, 5, 1, FAR)],
    "no resolution at all": [(X_RESOLUTION, 5, 0, 0), (283, 5, 0, 0)],
    "XMP of another type": [(700, 4, 1, 5)],
}

GIF_BLOCKS = {
    "a comment": b"!\xfe\5hello\0",
    "a comment of nothing": b"!\xfe\0",
    "NETSCAPE cut short": b"!\xff\x0bNETSCAPE2.0\1\1\0",
    "an application of junk": b"!\xff\xff" + JUNK[:255] + b"\0",
    "a control cut short": b"!\xf9\1\1\0",
    "an unknown extension": b"!\x99\3abc\0",
}


def cases() -> dict[str, bytes]:
    """Every broken file by name."""
    found = {}
    for name, part in PNG_CHUNKS.items():
        found[f"PNG: {name}"] = inserted(PNG, part, at=AFTER_HEADER)
        found[f"PNG: {name}, behind the pixels"] = inserted(PNG, part, at=len(PNG) - 12)
    found["PNG: tEXt cut short, behind the pixels"] = PNG[:-12] + chunk(b"tEXt", JUNK)[:-40]
    found["PNG: no end"] = PNG[:-12]
    for name, part in JPEG_SEGMENTS.items():
        found[f"JPEG: {name}"] = inserted(JPEG, part, at=2)
    for name, tags in TIFF_TAGS.items():
        for label, data in (("TIFF", TIFF), ("TIFF LZW", LZW)):
            found[f"{label}: {name}"] = tagged(data, *tags)
    found["TIFF: a second page beyond the file"] = tagged(TIFF)[:-4] + struct.pack("<I", FAR)
    found |= {f"WebP: {name}": data for name, data in WEBPS.items()}
    found |= {f"GIF: {name}": inserted(GIF, part, at=13 + 3 * 64) for name, part in GIF_BLOCKS.items()}
    return found


CASES = cases()
CLEAN = {"PNG": PNG, "JPEG": JPEG, "WebP": WEBP, "GIF": GIF, "TIFF": TIFF, "TIFF LZW": TIFF}


def clean(name: str) -> np.ndarray:
    """The pixels of a case without its broken metadata."""
    return np.asarray(decode(CLEAN[name.partition(":")[0]]))


@pytest.mark.parametrize("name", CASES)
def test_sound_pixels_survive_broken_metadata(name: str) -> None:
    found = np.asarray(decode(CASES[name]))
    assert np.array_equal(found, clean(name))
    second = cv2.imdecode(np.frombuffer(CASES[name], np.uint8), cv2.IMREAD_COLOR)
    if second is not None:  # it gives up where the file ends too early, or a chunk is too short
        assert np.array_equal(found, second[..., ::-1])


def test_the_second_decoder_reads_most_of_these_files() -> None:
    read = [
        cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) is not None for data in CASES.values()
    ]
    assert sum(read) > 0.85 * len(read)


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("JPEG")])
def test_fast_decoding_survives_it_too(name: str) -> None:
    pytest.importorskip("simplejpeg")
    assert np.array_equal(np.asarray(fast_decoder()(CASES[name])), clean(name))


@pytest.mark.parametrize("name", [name for name in CASES if "cut short" not in name and "no end" not in name])
def test_half_the_pixels_are_refused_whatever_the_metadata(name: str) -> None:
    with pytest.raises(Undecodable, match=r"truncated|damaged"):
        decode(half(name))


def half(name: str) -> bytes:
    """A case whose pixels end in the middle, with the metadata that lay behind them."""
    data, kind = CASES[name], name.partition(":")[0]
    if kind.startswith("TIFF"):
        return tagged(data, (273, 4, 1, len(data) - 100))
    if kind == "WebP":
        return data[: data.index(b"VP8L") + len(WEBP) // 2]
    if kind != "PNG":
        return data[: -len(CLEAN[kind]) // 2]
    at = data.index(b"IDAT") + 4
    length = int.from_bytes(data[at - 8 : at - 4], "big")
    return data[: at - 8] + chunk(b"IDAT", data[at : at + length // 2]) + data[at + length + 4 :]


@settings(max_examples=150, deadline=None)
@given(place=st.integers(8, len(PNG) - 1), bits=st.integers(1, 255))
def test_a_changed_byte_of_a_png_changes_no_pixel_or_is_refused(place: int, bits: int) -> None:
    changed = PNG[:place] + bytes([PNG[place] ^ bits]) + PNG[place + 1 :]
    try:
        found = decode(changed)
    except Undecodable:
        return
    assert np.array_equal(np.asarray(found), np.asarray(IMAGE))


def test_pixels_with_a_wrong_checksum_are_refused() -> None:
    rows = zlib.compress(b"".join(b"\0" + row.tobytes() for row in np.asarray(IMAGE)), 0)  # not compressed
    changed = bytearray(PNG[:AFTER_HEADER] + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
    changed[AFTER_HEADER + 100] ^= 0x40
    assert cv2.imdecode(np.frombuffer(bytes(changed), np.uint8), cv2.IMREAD_COLOR) is None
    with pytest.raises(Undecodable, match="damaged: the checksum of IDAT is wrong"):
        decode(bytes(changed))


def test_pixels_behind_a_gap_are_not_joined() -> None:
    rows = zlib.compress(b"".join(b"\0" + row.tobytes() for row in np.asarray(IMAGE)), 0)
    parts = [
        chunk(kind, rows[at : at + 600])
        for at, kind in zip((0, 600, 1200), (b"IDAT", b"iDAT", b"IDAT"), strict=True)
    ]
    with pytest.raises(Undecodable, match="truncated"):
        decode(PNG[:AFTER_HEADER] + b"".join(parts) + bad_checksum(b"tEXt", b"k\0v") + chunk(b"IEND", b""))


@pytest.mark.parametrize("turn", [3, 6])
def test_an_orientation_beside_broken_metadata_is_honoured(turn: int) -> None:
    expected = np.asarray(IMAGE.transpose(TURNS[turn]))
    xmp = f'<x tiff:Orientation="{turn}"/>'.encode()
    break_png = PNG_CHUNKS["zTXt above Pillow's limit"]
    pngs = (
        inserted(PNG, break_png, chunk(b"eXIf", exif(turn)[6:]), at=AFTER_HEADER),
        inserted(PNG, break_png, chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp), at=AFTER_HEADER),
    )
    webps = (
        webp((b"EXIF", exif(turn)[6:]), (b"ABCD", JUNK), cut=5),
        webp((b"EXIF", exif(turn)), (b"ABCD", JUNK), cut=5),
        webp((b"XMP ", xmp), (b"ABCD", JUNK), cut=5),
    )
    tiff = tagged(TIFF, (0x0112, 3, 1, turn), (700, 4, 1, 5))
    for data in (*pngs, *webps, tiff):
        assert np.array_equal(np.asarray(decode(data)), expected)
    upright = np.asarray(decode(JPEG))
    for part in (segment(0xE1, exif(turn)), segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp)):
        data = inserted(JPEG, JPEG_SEGMENTS["Photoshop without a name"], part, at=2)
        assert np.array_equal(
            np.asarray(decode(data)), np.asarray(Image.fromarray(upright).transpose(TURNS[turn]))
        )


@pytest.mark.parametrize("big", [False, True], ids=["TIFF", "BigTIFF"])
def test_a_tiff_without_metadata_is_read_by_pillow_itself(big: bool) -> None:
    maker = Image.Exif()
    maker[0x010F] = "somebody"
    data = encoded("TIFF", exif=maker, big_tiff=big)
    assert data[2] == (43 if big else 42)
    stripped = strip_metadata(data)
    assert stripped is not None
    with Image.open(io.BytesIO(data)) as before, Image.open(io.BytesIO(stripped.data)) as after:
        assert np.array_equal(np.asarray(after), np.asarray(before))
        assert before.tag_v2[0x010F] == "somebody"
        assert 0x010F not in after.tag_v2


def test_a_webp_without_metadata_does_not_say_that_it_has_some() -> None:
    """Of the flags of VP8X those of EXIF (8) and XMP (4) go, those of alpha (16) and animation (2) stay."""
    stripped = strip_metadata(webp((b"EXIF", exif(3)), (b"XMP ", b"<x/>"), flags=0x1E))
    assert stripped is not None
    assert b"EXIF" not in stripped.data
    assert stripped.data[stripped.data.index(b"VP8X") + 8] == 0x12


def test_avif_survives_broken_exif() -> None:
    pytest.importorskip("PIL.AvifImagePlugin")
    tag = Image.Exif()
    tag[0x010F] = "Maker"
    data = encoded("AVIF", exif=tag)
    broken = data.replace(b"MM\0*", b"junk").replace(b"II*\0", b"junk")
    assert broken != data
    assert np.array_equal(np.asarray(decode(broken)), np.asarray(decode(encoded("AVIF"))))


def test_transparency_and_palettes_are_kept() -> None:
    image = IMAGE.quantize(16)
    data = encoded("PNG", image, transparency=bytes(range(0, 256, 16)))
    broken = inserted(data, PNG_CHUNKS["iCCP of an unknown compression"], at=AFTER_HEADER)
    assert np.array_equal(np.asarray(decode(broken)), np.asarray(decode(data)))
    gif = encoded("GIF", image, transparency=3)
    broken = inserted(gif, GIF_BLOCKS["a control cut short"], at=gif.index(b"!\xf9"))
    assert np.array_equal(np.asarray(decode(broken)), np.asarray(decode(gif)))
    wrong = data.replace(b"tRNS\0", b"tRNS\1")
    with pytest.raises(Undecodable, match="checksum of tRNS"):
        decode(wrong)


def test_a_png_of_endless_chunks_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_CHUNKS * 8192 > 89_478_485 * 8  # what libpng writes of the largest image that is decoded
    monkeypatch.setattr(metadata, "MAX_CHUNKS", 1000)
    with pytest.raises(Undecodable, match="more chunks than any PNG needs"):
        decode(PNG[:AFTER_HEADER] + chunk(b"IDAT", b"") * 1000)


@given(
    data=st.binary(max_size=300),
    start=st.sampled_from([b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"II*\0", b"MM\0+"]),
)
def test_stripping_ends_for_any_bytes(data: bytes, start: bytes) -> None:
    for begun in (start + data, b"RIFF" + data[:4] + b"WEBP" + data, data[:4] + b"ftypavif" + data):
        strip_metadata(begun)
