"""Every kind of pixel comes out as a viewer shows it."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from lsncli.images import decode as decoding
from lsncli.images.decode import MAX_PIXELS, decode, decode_here
from lsncli.images.item import MAX_BYTES
from lsncli.images.read import Undecodable


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pixels(data: bytes) -> np.ndarray:
    image = decode(data)
    assert image.mode == "RGB"
    return np.asarray(image)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, bits: int, colour: int, rows: bytes, *between: bytes) -> bytes:
    """A PNG written by hand, for kinds that Pillow does not write."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(between) + data + chunk(b"IEND", b"")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_exif_orientation_is_applied(kind: str, orientation: int) -> None:
    corners = np.zeros((16, 32, 3), np.uint8)
    corners[:8, :16], corners[:8, 16:], corners[8:, :16] = (250, 0, 0), (0, 250, 0), (0, 0, 250)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(corners), kind, exif=exif)
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    found = pixels(data)
    assert found.shape == ((16, 32, 3) if orientation < 5 else (32, 16, 3))
    assert (found == expected).all()


@pytest.mark.parametrize("value", [b"\x09\0", b"\0\0", b"\xff\xff"])
def test_damaged_exif_data_turns_nothing(value: bytes) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(Image.new("RGB", (8, 4)), "JPEG", exif=exif)
    at = data.index(b"Exif\0\0")
    cut = data[: at + 14] + b"\xff\xff" + data[at + 16 :]  # as many tags as no file holds
    wrong = data.replace(b"\x12\x01\x03\0\x01\0\0\0\x06\0", b"\x12\x01\x03\0\x01\0\0\0" + value)
    wrong = wrong.replace(b"\x01\x12\0\x03\0\0\0\x01\0\x06", b"\x01\x12\0\x03\0\0\0\x01" + value)
    assert wrong != data
    assert pixels(wrong).shape == (4, 8, 3)
    assert pixels(cut).shape in ((4, 8, 3), (8, 4, 3))


def test_transparent_pixels_show_white_beneath() -> None:
    layers = np.zeros((1, 3, 4), np.uint8)
    layers[0, :, 3] = 0, 128, 255  # black ink on nothing, half and whole
    for kind, options in (("PNG", {}), ("WEBP", {"lossless": True, "exact": True}), ("TIFF", {})):
        found = pixels(encoded(Image.fromarray(layers), kind, **options))
        assert found[0, :, 0].tolist() == [255, 127, 0], kind
    grey = np.array([[[0, 0], [100, 255]]], np.uint8)
    assert pixels(encoded(Image.frombytes("LA", grey.shape[1::-1], grey.tobytes()), "PNG"))[
        0, :, 1
    ].tolist() == [255, 100]


def test_an_opaque_alpha_channel_changes_no_pixel() -> None:
    layers = np.random.default_rng(0).integers(0, 256, (5, 6, 4), dtype=np.uint8)
    layers[..., 3] = 255
    assert (pixels(encoded(Image.fromarray(layers), "PNG")) == layers[..., :3]).all()


def test_palettes_with_transparency() -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    one = image.copy()
    one.putpixel((0, 0), 0)
    assert (pixels(encoded(image, "PNG")) == [10, 20, 30]).all()
    half = pixels(encoded(image, "PNG", transparency=bytes([0, 128])))
    assert np.abs(half.astype(int) - [132, 137, 142]).max() <= 1
    for kind in ("PNG", "GIF"):
        found = pixels(encoded(one, kind, transparency=0))
        assert found[0, 0].tolist() == [255, 255, 255], kind
        assert found[1, 1].tolist() == [10, 20, 30], kind


def test_one_colour_that_stands_for_transparent() -> None:
    rows = b"\0" + bytes([1, 2, 3]) + bytes([9, 9, 9])
    data = png(2, 1, 8, 2, rows, chunk(b"tRNS", struct.pack(">HHH", 1, 2, 3)))
    assert pixels(data)[0].tolist() == [[255, 255, 255], [9, 9, 9]]


def test_sixteen_bits_of_colour_are_scaled_not_clipped() -> None:
    levels = [0, 128 * 257, 65535]
    rows = b"\0" + b"".join(struct.pack(">HHH", level, 0, 65535 - level) for level in levels)
    assert pixels(png(3, 1, 16, 2, rows))[0].tolist() == [[0, 0, 255], [128, 0, 127], [255, 0, 0]]
    with_alpha = b"\0" + b"".join(struct.pack(">HH", level, 65535) for level in levels)
    assert pixels(png(3, 1, 16, 4, with_alpha))[0, :, 0].tolist() == [0, 128, 255]


def test_cmyk_as_adobe_inverts_it_and_as_tiff_does_not() -> None:
    for colour, expected in (
        ((255, 0, 0, 0), [0, 255, 255]),
        ((0, 0, 0, 255), [0, 0, 0]),
        ((0,) * 4, [255] * 3),
    ):
        image = Image.new("CMYK", (8, 8), colour)
        jpeg = encoded(image, "JPEG")
        assert b"Adobe" in jpeg  # that marker: values are stored inverted
        for data in (jpeg, encoded(image, "TIFF")):
            assert np.abs(pixels(data).astype(int) - expected).max() < 8


def test_avif_is_read() -> None:
    pytest.importorskip("PIL.AvifImagePlugin")
    image = Image.new("RGB", (32, 32), (200, 30, 40))
    assert np.abs(pixels(encoded(image, "AVIF")).astype(int) - [200, 30, 40]).max() < 8
    with pytest.raises(Undecodable, match=r"begins like an AVIF|damaged|truncated"):
        decode(encoded(image, "AVIF")[:60])


def test_heic_is_read_with_its_extra() -> None:
    heif = pytest.importorskip("pillow_heif")
    buffer = io.BytesIO()
    heif.from_pillow(Image.new("RGB", (64, 64), (200, 30, 40))).save(buffer)
    assert np.abs(pixels(buffer.getvalue()).astype(int) - [200, 30, 40]).max() < 8
    with pytest.raises(Undecodable, match=r"begins like a HEIC|damaged|truncated"):
        decode(buffer.getvalue()[:80])


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "_heif", lambda: False)
    monkeypatch.setattr(decoding, "_avif", lambda: False)
    with pytest.raises(Undecodable, match=r"pip install 'lsncli\[heif\]'"):
        decode_here(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    with pytest.raises(Undecodable, match="an AVIF image, which this Pillow"):
        decode_here(b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf")


def test_a_decompression_bomb_is_refused_before_it_is_decoded() -> None:
    for side in (10_000, 60_000):  # Pillow warns of the first and raises at the second
        with pytest.raises(Undecodable, match="too large"):
            decode(png(side, side, 8, 2, b""))


def test_a_large_jpeg_is_decoded_at_half_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(Image.new("RGB", (64, 48), (90, 90, 90)), "JPEG")
    monkeypatch.setattr(decoding, "MAX_PIXELS", 1000)
    assert pixels(data).shape == (24, 32, 3)
    monkeypatch.setattr(decoding, "MAX_PIXELS", 500)
    with pytest.raises(Undecodable, match="too large: 64 x 48 pixels"):
        decode(data)
    assert MAX_PIXELS * 6 <= MAX_BYTES


def test_a_jpeg_of_endless_passes_is_refused() -> None:
    data = encoded(Image.new("RGB", (2000, 2000)), "JPEG", progressive=True)
    assert pixels(data).shape == (2000, 2000, 3)
    start = data.rindex(b"\xff\xda")
    passes = data[:-2] + data[start:-2] * 2000 + data[-2:]
    with pytest.raises(Undecodable, match="in more passes than a camera makes"):
        decode(passes)


def test_a_picture_in_a_picture_of_a_phone_is_its_first() -> None:
    first, second = Image.new("RGB", (16, 8), (200, 0, 0)), Image.new("RGB", (4, 4), (0, 0, 200))
    data = encoded(first, "MPO", save_all=True, append_images=[second])
    assert pixels(data).shape == (8, 16, 3)
    assert pixels(data)[0, 0, 0] > 190
