"""Pixels value by value against a second decoder, or against the numbers that were written, for every layout.

TIFFs are written by tifffile and read by OpenCV where it can; other files are written by hand where Pillow
does not write the layout. The rule that makes 8-bit RGB of them is that of ``docs/sources.md``.
"""

import io
import itertools
import logging
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from test_modes import chunk

from lsncli.images import tiff_pixels
from lsncli.images.decode import decode
from lsncli.images.read import Undecodable

cv2 = pytest.importorskip("cv2")
tifffile = pytest.importorskip("tifffile")

Array = NDArray[Any]
HEIGHT, WIDTH = 19, 21  # no multiple of strips, tiles or bytes
RANDOM = np.random.default_rng(5)


def noise(dtype: str, *shape: int) -> Array:
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return RANDOM.random((HEIGHT, WIDTH, *shape)).astype(kind)
    ends = np.iinfo(kind)
    return RANDOM.integers(ends.min, ends.max, (HEIGHT, WIDTH, *shape), dtype=kind, endpoint=True)


def read(data: bytes) -> Array:
    return np.asarray(decode(data))


def second(data: bytes) -> Array | None:
    """What OpenCV reads, unchanged but in the order RGB(A)."""
    found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    return found if found is None or found.ndim == 2 else found[..., [2, 1, 0, 3][: found.shape[2]]]


def grey(values: Array) -> Array:
    return np.repeat(values[..., None], 3, axis=2)


def on_white(values: Array) -> Array:
    """8-bit RGBA over white."""
    alpha = values[..., 3:].astype(float) / 255
    return np.rint(values[..., :3] * alpha + 255 * (1 - alpha))


def stretched(values: Array) -> Array:
    wide = values.astype(np.float64)
    return np.rint((wide - wide.min()) / ((wide.max() - wide.min()) / 255)).astype(np.uint8)


def eight(values: Array) -> Array:
    """The documented rule for grey values."""
    if values.dtype == bool:
        return values * np.uint8(255)
    if values.dtype.kind == "f" and values.min() >= 0 and values.max() <= 1:
        return np.rint(values.astype(np.float64) * 255).astype(np.uint8)
    if values.dtype.kind == "f" and values.min() >= 0 and values.max() <= 255:
        return np.rint(values).astype(np.uint8)
    white = {"u1": 255, "u2": 65535, "i1": 127, "i2": 32767}.get(values.dtype.str[1:], 65535)
    if values.dtype.kind == "f" or values.min() < 0 or values.max() > white:
        return stretched(values)
    return np.rint(values * (255 / white)).astype(np.uint8)


# -- TIFF --


def tiff(values: Array, **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, metadata=None, **options)
    return buffer.getvalue()


GREYS = {
    "bilevel": RANDOM.random((HEIGHT, WIDTH)) < 0.5,
    **{name: noise(name) for name in ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8")},
    "i1 from 0": np.abs(noise("i1") // 2),
    "i2 from 0": np.abs(noise("i2") // 2),
    "u4 of 16 bits": noise("u2").astype("u4"),
    "f4 of bytes": 255 * noise("f4"),
    "f4 of any size": (1e4 * (noise("f4") - 0.5)).astype("f4"),
}
ENCODINGS: list[dict[str, Any]] = [{}, {"compression": "zlib"}, {"compression": "zlib", "predictor": True}]
PLACES: list[dict[str, Any]] = [{"rowsperstrip": 8}, {"tile": (16, 16)}, {"rowsperstrip": HEIGHT}]


def same_as_opencv(data: bytes, values: Array) -> bool:
    """Whether OpenCV reads these numbers, too; where it reads the file."""
    found = second(data)
    return found is None or found.dtype != values.dtype or np.array_equal(found, values)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("name", GREYS)
def test_tiffs_of_one_channel(name: str, order: str) -> None:
    values = GREYS[name]
    for encoding, place, big in itertools.product(ENCODINGS, PLACES, (False, True)):
        if encoding.get("predictor") and (values.dtype == bool or values.dtype.str[1:] in ("u8", "i8")):
            continue  # there is none for these
        options = {**encoding, **place, "byteorder": order, "bigtiff": big}
        black = tiff(values, photometric="minisblack", **options)
        assert np.array_equal(read(black), grey(eight(values))), options
        assert same_as_opencv(black, values), options
        white = tiff(values, photometric="miniswhite", **options)
        assert np.array_equal(read(white), 255 - grey(eight(values))), options


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", ["u1", "u2", "f4", "i2"])
def test_tiffs_of_colours(dtype: str, order: str) -> None:
    values = noise(dtype, 3)
    expected = values if dtype == "u1" else values >> 8 if dtype == "u2" else eight(values)
    for encoding, place, planar in itertools.product(ENCODINGS, PLACES, ("contig", "separate")):
        stored = values if planar == "contig" else np.moveaxis(values, -1, 0)
        options = {**encoding, **place, "byteorder": order, "planarconfig": planar, "photometric": "rgb"}
        data = tiff(stored, **options)
        assert np.array_equal(read(data), expected), options
        # OpenCV takes separate planes of more than 8 bits for pixels side by side.
        assert planar == "separate" or same_as_opencv(data, values), options


@pytest.mark.parametrize("dtype", ["u1", "u2"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_tiffs_of_four_channels(dtype: str, planar: str) -> None:
    values = noise(dtype, 4)
    upper = values if dtype == "u1" else (values >> 8).astype(np.uint8)
    whole = upper[..., :3].astype(float)
    for order, encoding in itertools.product("<>", ENCODINGS):
        stored = values if planar == "contig" else np.moveaxis(values, -1, 0)
        options = {**encoding, "byteorder": order, "planarconfig": planar}
        alpha = tiff(stored, photometric="rgb", extrasamples=["unassalpha"], **options)
        assert np.abs(read(alpha) - on_white(upper)).max() <= 1, options
        spare = tiff(stored, photometric="rgb", extrasamples=["unspecified"], **options)
        assert np.array_equal(read(spare), upper[..., :3]), options
        cmyk = read(tiff(stored, photometric="separated", **options))
        assert np.abs(cmyk - (255 - whole) * (255 - upper[..., 3:]) / 255).max() <= 1, options


def test_tiffs_with_associated_alpha() -> None:
    values = noise("u2", 4)
    values[..., :3] = values[..., :3] * (values[..., 3:] / 65535)  # colours are stored times alpha
    upper = (values >> 8).astype(float)
    for planar in ("contig", "separate"):
        stored = values if planar == "contig" else np.moveaxis(values, -1, 0)
        data = tiff(stored, photometric="rgb", extrasamples=["assocalpha"], planarconfig=planar)
        assert np.abs(read(data) - (upper[..., :3] + 255 - upper[..., 3:])).max() <= 2


@pytest.mark.parametrize("order", ["<", ">"])
def test_tiffs_of_a_palette_and_of_several_pages(order: str) -> None:
    colours, values = RANDOM.integers(0, 65536, (3, 256), dtype=np.uint16), noise("u1")
    expected = (colours >> 8).astype(np.uint8)[:, values].transpose(1, 2, 0)
    for encoding in ENCODINGS[:2]:
        data = tiff(values, photometric="palette", colormap=colours, byteorder=order, **encoding)
        assert np.array_equal(read(data), expected)
    pages = np.stack([noise("i2"), noise("i2")])
    assert np.array_equal(read(tiff(pages, photometric="minisblack", byteorder=order)), grey(eight(pages[0])))


def by_hand(values: Array, bits: int, photometric: int, order: str, fill: int = 1) -> bytes:
    """An uncompressed TIFF of one channel of few bits, in strips of 8 rows."""
    spread = (values[..., None] >> np.arange(bits - 1, -1, -1) & 1).reshape(len(values), -1)
    rows = np.packbits(spread, axis=1, bitorder="big" if fill == 1 else "little").tobytes()
    row = len(rows) // len(values)
    offsets = [8 + at for at in range(0, len(rows), 8 * row)]
    sizes = [min(8 * row, len(rows) + 8 - at) for at in offsets]
    lists = 8 + len(rows)
    start = lists + 8 * len(offsets)
    tags = [
        (256, WIDTH),
        (257, HEIGHT),
        (258, bits),
        (259, 1),
        (262, photometric),
        (266, fill),
        (277, 1),
        (278, 8),
    ]
    entries = [(tag, 4, 1, value) for tag, value in tags]
    entries += [(273, 4, len(offsets), lists), (279, 4, len(sizes), lists + 4 * len(offsets))]
    directory = b"".join(struct.pack(order + "HHII", *entry) for entry in sorted(entries))
    return b"".join(
        [
            {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "I", start),
            rows,
            struct.pack(f"{order}{2 * len(offsets)}I", *offsets, *sizes),
            struct.pack(order + "H", len(entries)) + directory + bytes(4),
        ]
    )


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 12])
def test_tiffs_of_few_bits(bits: int) -> None:
    values = RANDOM.integers(0, 2**bits, (HEIGHT, WIDTH))
    expected = grey(np.rint(values * (255 / (2**bits - 1))).astype(np.uint8))
    for order, fill in itertools.product("<>", (1, 2)):
        assert np.array_equal(read(by_hand(values, bits, 1, order, fill)), expected), (order, fill)
        assert np.array_equal(read(by_hand(values, bits, 0, order, fill)), 255 - expected), (order, fill)


def test_a_large_strip_is_read_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiff_pixels, "BAND", 3 * 2 * WIDTH)
    values = noise("i2", 3)
    for options in ({}, {"compression": "zlib"}, {"rowsperstrip": 2}):
        for planar in ("contig", "separate"):
            stored = values if planar == "contig" else np.moveaxis(values, -1, 0)
            data = tiff(stored, photometric="rgb", planarconfig=planar, **options)
            assert np.array_equal(read(data), eight(values)), options


def test_cut_and_unknown_tiffs_have_true_reasons() -> None:
    whole = tiff(noise("i2"), photometric="minisblack", rowsperstrip=4)
    with pytest.raises(Undecodable, match=r"^truncated: "):
        decode(whole[:-20])
    packed = tiff(noise("i2"), photometric="minisblack", compression="zlib")
    at = tifffile.TiffFile(io.BytesIO(packed)).pages[0].dataoffsets[0]
    with pytest.raises(Undecodable, match=r"^damaged: "):
        decode(packed[:at] + bytes(50) + packed[at + 50 :])
    for values, options, reason in (
        (noise("f4", 2).view("c8")[..., 0], {}, "1 x 64 bits, of another kind"),
        (noise("u2", 3), {"photometric": "ycbcr", "subsampling": (1, 1)}, "3 x 16 bits, unsigned .YCbCr"),
        (noise("u2", 3), {"photometric": "cielab"}, "3 x 16 bits, unsigned .Lab"),
    ):
        with pytest.raises(Undecodable, match=f"^not supported: a TIFF of {reason}"):
            decode(tiff(values, **options))
    compression = by_hand(noise("u1"), 8, 1, "<").replace(
        struct.pack("<HHII", 259, 4, 1, 1), struct.pack("<HHII", 259, 4, 1, 34712)
    )
    with pytest.raises(Undecodable, match=r"not supported: a TIFF of .* compression 34712"):
        decode(compression)


def test_a_tiff_whose_tags_claim_too_much_is_refused_before_it_is_decoded() -> None:
    data = by_hand(noise("u2").astype(int) >> 4, 12, 1, "<")
    for tag, old in ((256, WIDTH), (257, HEIGHT)):
        wide = data.replace(struct.pack("<HHII", tag, 4, 1, old), struct.pack("<HHII", tag, 4, 1, 1 << 30))
        with pytest.raises(Undecodable, match="too large: "):
            decode(wide)
    tiles = tiff(noise("i2"), photometric="minisblack", tile=(16, 16))
    with pytest.raises(Undecodable, match="too large: "):
        decode(tiles.replace(struct.pack("<HHII", 322, 4, 1, 16), struct.pack("<HHII", 322, 4, 1, 1 << 28)))


WHOLE = {
    f"{dtype} {order}": tiff(
        noise(dtype), byteorder=order, photometric="minisblack", tile=(16, 16), **encoding
    )
    for (dtype, order), encoding in zip(
        [("i2", ">"), ("f4", "<"), ("u4", ">"), ("f8", ">")], [*ENCODINGS, {}], strict=True
    )
}


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(sorted(WHOLE)),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=6),
    st.integers(0, 300),
)
def test_a_damaged_tiff_gives_an_image_or_a_reason(
    name: str, changes: list[tuple[int, int]], cut: int
) -> None:
    damaged = bytearray(WHOLE[name])
    for place, value in changes:
        damaged[place % len(damaged)] = value
    try:
        image = decode(bytes(damaged[: len(damaged) - cut]))
    except Undecodable:
        return
    assert image.mode == "RGB"


def test_a_claim_of_many_channels_is_refused_by_name_and_logged_nowhere() -> None:
    samples_each = struct.pack("<HHII", 277, 4, 1, 1)
    data = by_hand(noise("u1"), 8, 1, "<").replace(samples_each, samples_each[:8] + struct.pack("<I", 50))
    with pytest.raises(Undecodable, match=r"^not supported: a TIFF of 50 x 8 bits"):
        decode(data)
    assert logging.getLogger("PIL").handlers  # without one Python prints Pillow's errors to stderr


def test_lab_is_read_as_littlecms_converts_it() -> None:
    lab = np.array([[[255, 0, 0], [0, 0, 0], [128, 0, 0]]], np.uint8)
    assert (
        np.abs(read(tiff(lab, photometric="cielab")) - np.array([[[255] * 3, [0] * 3, [119] * 3]])).max() <= 3
    )


def test_ycbcr_in_a_tiff_of_jpeg_is_the_jpegs() -> None:
    image = Image.fromarray(np.kron(noise("u1", 3)[:4, :4], np.ones((8, 8, 1), np.uint8)))
    buffer = io.BytesIO()
    image.save(buffer, "TIFF", compression="jpeg", quality=95)
    found = second(buffer.getvalue())
    assert found is not None
    assert np.abs(read(buffer.getvalue()).astype(int) - found).max() <= 2


# -- PNG --

PASSES = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
"""First row and column, and steps, of the passes of an interlaced PNG."""


def packed(values: Array, bits: int) -> bytes:
    """Rows (H, W * channels), each behind the number of its filter, none."""
    if bits == 16:
        rows = [row.astype(">u2").tobytes() for row in values]
    else:
        spread = (values[..., None] >> np.arange(bits - 1, -1, -1) & 1).reshape(len(values), -1)
        rows = [row.tobytes() for row in np.packbits(spread, axis=1)]
    return b"".join(b"\0" + row for row in rows)


def png(values: Array, bits: int, colour: int, interlaced: bool, *between: bytes) -> bytes:
    """A PNG of values (H, W, C)."""
    parts = [values] if not interlaced else [values[y::dy, x::dx] for y, x, dy, dx in PASSES]
    rows = b"".join(packed(part.reshape(len(part), -1), bits) for part in parts if part.size)
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], bits, colour, 0, 0, interlaced)
    body = (
        chunk(b"IHDR", header) + b"".join(between) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )
    return b"\x89PNG\r\n\x1a\n" + body


GREY, COLOUR, PALETTE, GREY_ALPHA, COLOUR_ALPHA = 0, 2, 3, 4, 6
PNGS = [(GREY, bits) for bits in (1, 2, 4, 8, 16)] + [(PALETTE, bits) for bits in (1, 2, 4, 8)]
PNGS += [(colour, bits) for colour in (COLOUR, GREY_ALPHA, COLOUR_ALPHA) for bits in (8, 16)]


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("colour", "bits"), PNGS)
def test_pngs(colour: int, bits: int, interlaced: bool) -> None:
    channels = {GREY: 1, COLOUR: 3, PALETTE: 1, GREY_ALPHA: 2, COLOUR_ALPHA: 4}[colour]
    values = RANDOM.integers(0, 2**bits, (HEIGHT, WIDTH, channels))
    colours = (
        RANDOM.integers(0, 256, (2**bits, 3), dtype=np.uint8)
        if colour == PALETTE
        else np.zeros((0, 3), np.uint8)
    )
    data = png(
        values, bits, colour, interlaced, *([chunk(b"PLTE", colours.tobytes())] if len(colours) else [])
    )
    scaled = (
        values.astype(np.uint8) if bits == 8 else values >> 8 if bits == 16 else values * 255 // (2**bits - 1)
    )
    if colour == PALETTE:
        expected = colours[values[..., 0]]
    elif colour == GREY:
        expected = grey(np.rint(values[..., 0] * (255 / (2**bits - 1))))
    elif colour == COLOUR:
        expected = scaled
    else:
        layers = scaled if colour == COLOUR_ALPHA else scaled[..., [0, 0, 0, 1]]
        expected = on_white(layers)
    assert np.abs(read(data) - expected).max() <= (1 if colour in (GREY_ALPHA, COLOUR_ALPHA) else 0)
    found = second(data)
    assert found is not None
    found = grey(found) if found.ndim == 2 else found
    found = found.astype(int) >> 8 if found.dtype == np.uint16 else found.astype(int)
    found = on_white(found) if found.shape[2] == 4 else found
    assert np.abs(read(data) - found).max() <= 1


# -- JPEG, WebP, GIF, BMP --


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


SMOOTH = Image.fromarray(np.kron(noise("u1", 3)[:6, :5], np.ones((9, 8, 1), np.uint8)))


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"subsampling": "4:4:4"}, {"restart_marker_rows": 1}]
)
def test_jpegs(mode: str, options: dict[str, object]) -> None:
    data = encoded(SMOOTH.convert(mode), "JPEG", quality=92, **options)
    found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    # Of CMYK, OpenCV makes RGB in whole numbers of its own.
    assert np.abs(read(data).astype(int) - found[..., ::-1]).max() <= (3 if mode == "CMYK" else 1)


@pytest.mark.parametrize(
    ("marker", "bits", "reason"),
    [
        (0xC1, 12, "of 12 bits a channel"),
        (0xC5, 8, "with hierarchical coding"),
        (0xC7, 8, "with lossless coding"),
    ],
)
def test_rare_jpegs_are_refused_for_what_they_are(marker: int, bits: int, reason: str) -> None:
    data = bytearray(encoded(SMOOTH, "JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 1], data[at + 4] = marker, bits
    with pytest.raises(Undecodable, match=f"^not supported: a JPEG {reason}$"):
        decode(bytes(data))


@pytest.mark.parametrize("options", [{"quality": 80}, {"lossless": True}, {"lossless": True, "exact": True}])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_webps(mode: str, options: dict[str, object]) -> None:
    image = SMOOTH.copy()
    if mode == "RGBA":
        image.putalpha(SMOOTH.convert("L"))
    data = encoded(image, "WEBP", **options)
    found = second(data)
    assert found is not None
    expected = on_white(found) if found.shape[2] == 4 else found
    assert np.abs(read(data) - expected.astype(float)).max() <= 1


@pytest.mark.parametrize("transparent", [None, 3])
@pytest.mark.parametrize("interlaced", [0, 1])
def test_gifs(transparent: int | None, interlaced: int) -> None:
    image = SMOOTH.quantize(16)
    options = {} if transparent is None else {"transparency": transparent}
    data = encoded(image, "GIF", interlace=interlaced, **options)
    expected = np.asarray(image.convert("RGB")).copy()
    if transparent is not None:
        expected[np.asarray(image) == transparent] = 255
    assert np.array_equal(read(data), expected)


def bmp(
    width: int,
    height: int,
    bits: int,
    rows: bytes,
    compression: int = 0,
    colours: bytes = b"",
    masks: bytes = b"",
) -> bytes:
    """A BMP by hand; a negative height is from the top down."""
    start = 54 + len(masks) + len(colours)
    header = struct.pack(
        "<IiiHHIIiiII", 40, width, height, 1, bits, compression, len(rows), 0, 0, len(colours) // 4, 0
    )
    return b"BM" + struct.pack("<IHHI", start + len(rows), 0, 0, start) + header + masks + colours + rows


def padded(row: bytes) -> bytes:
    return row + bytes(-len(row) % 4)


COLOURS = RANDOM.integers(0, 256, (16, 3), dtype=np.uint8)
TABLE = b"".join(bytes([*colour[::-1], 0]) for colour in COLOURS)


@pytest.mark.parametrize("bits", [1, 4, 8])
@pytest.mark.parametrize("down", [False, True])
def test_bmps_of_a_palette(bits: int, down: bool) -> None:
    values = RANDOM.integers(0, min(2**bits, 16), (HEIGHT, WIDTH))
    spread = (values[..., None] >> np.arange(bits - 1, -1, -1) & 1).reshape(HEIGHT, -1)
    rows = [padded(row.tobytes()) for row in np.packbits(spread, axis=1)]
    data = bmp(
        WIDTH,
        -HEIGHT if down else HEIGHT,
        bits,
        b"".join(rows if down else rows[::-1]),
        colours=TABLE[: 4 << bits],
    )
    assert np.array_equal(read(data), COLOURS[values])
    assert np.array_equal(second(data), COLOURS[values])


def test_bmps_of_16_24_and_32_bits() -> None:
    values = noise("u1", 3)
    red, green, blue = (values[..., n].astype(int) for n in range(3))
    five = (red >> 3 << 10 | green >> 3 << 5 | blue >> 3).astype("<u2")
    six = (red >> 3 << 11 | green >> 2 << 5 | blue >> 3).astype("<u2")
    four = np.dstack([values[..., ::-1], np.zeros((HEIGHT, WIDTH), np.uint8)])

    def rows(array: Array) -> bytes:
        return b"".join(padded(row.tobytes()) for row in array[::-1])

    def widened(part: Array, bits: int) -> Array:
        return np.rint((part >> (8 - bits)) * (255 / (2**bits - 1)))

    masks = struct.pack("<III", 0xF800, 0x07E0, 0x001F)
    for data, wanted in (
        (
            bmp(WIDTH, HEIGHT, 16, rows(five)),
            np.dstack([widened(red, 5), widened(green, 5), widened(blue, 5)]),
        ),
        (
            bmp(WIDTH, HEIGHT, 16, rows(six), 3, masks=masks),
            np.dstack([widened(red, 5), widened(green, 6), widened(blue, 5)]),
        ),
        (bmp(WIDTH, HEIGHT, 24, rows(values[..., ::-1])), values),
        (bmp(WIDTH, HEIGHT, 32, rows(four)), values),
    ):
        assert np.abs(read(data) - wanted).max() <= 1


@pytest.mark.parametrize("bits", [4, 8])
def test_bmps_in_runs(bits: int) -> None:
    values = np.repeat(RANDOM.integers(0, 16, (HEIGHT, 4)), 5, axis=1)
    runs = b""
    for row in values[::-1]:
        for value in row[::5]:
            runs += bytes([5, value * 17 if bits == 4 else value])
        runs += b"\0\0"
    data = bmp(20, HEIGHT, bits, runs + b"\0\1", {4: 2, 8: 1}[bits], TABLE)
    assert np.array_equal(read(data), COLOURS[values])
    assert np.array_equal(second(data), COLOURS[values])


# -- PNM --


@pytest.mark.parametrize("most", [1, 9, 255, 300, 4095, 65535])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("plain", [False, True])
def test_pgms_and_ppms_are_scaled_by_their_largest_value(most: int, channels: int, plain: bool) -> None:
    values = RANDOM.integers(0, most + 1, (HEIGHT, WIDTH, channels))
    number = {1: 2, 3: 3}[channels] + (0 if plain else 3)
    head = f"P{number}\n# a comment\n{WIDTH} {HEIGHT}\n{most}\n".encode()
    body = (
        " ".join(map(str, values.flatten())).encode()
        if plain
        else values.astype("u1" if most < 256 else ">u2").tobytes()
    )
    expected = np.rint(values * (255 / most)).repeat(4 - channels if channels == 1 else 1, axis=2)
    assert np.abs(read(head + body) - expected).max() <= (1 if most > 255 else 0)
    with pytest.raises(Undecodable):
        decode(head + body[: len(body) // 2])


@pytest.mark.parametrize("plain", [False, True])
def test_pbms_are_black_where_they_are_one(plain: bool) -> None:
    values = RANDOM.integers(0, 2, (HEIGHT, WIDTH))
    body = (
        b" ".join(b"%d" % value for value in values.flatten())
        if plain
        else np.packbits(values, axis=1).tobytes()
    )
    data = f"P{1 if plain else 4}\n{WIDTH} {HEIGHT}\n".encode() + body
    assert np.array_equal(read(data), grey(255 * (1 - values)))
    assert np.array_equal(
        cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), grey(255 * (1 - values))
    )
