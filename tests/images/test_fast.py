"""Fast decoding: the very pixels of exact decoding, and everything that is not plain goes the exact way."""

import io
import struct
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from slow_images import segments

from lsncli.errors import Unavailable
from lsncli.images import decode as exact
from lsncli.images import fast_decode
from lsncli.images.decode import decode
from lsncli.images.fast_decode import fast_decoder, is_plain
from lsncli.images.read import Undecodable

pytest.importorskip("simplejpeg")


def picture(height: int, width: int, seed: int = 0) -> Image.Image:
    """Smooth colours with hard edges and some noise, which shows any difference in upsampling."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (-(-height // 9), -(-width // 9), 3), dtype=np.uint8)
    pixels = coarse.repeat(9, axis=0).repeat(9, axis=1)[:height, :width].astype(int)
    return Image.fromarray(np.clip(pixels + random.integers(-20, 20, pixels.shape), 0, 255).astype(np.uint8))


def jpeg(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **options)
    return buffer.getvalue()


def exif(orientation: object, kind: int = 3, order: str = "<") -> bytes:
    """An EXIF block whose only entry is an orientation."""
    start = b"II*\0" if order == "<" else b"MM\0*"
    value = struct.pack(order + "HH", orientation, 0) if kind == 3 else struct.pack(order + "I", orientation)
    entry = struct.pack(order + "HHI", 0x0112, kind, 1) + value
    return b"Exif\0\0" + start + struct.pack(order + "IH", 8, 1) + entry + struct.pack(order + "I", 0)


def same(data: bytes) -> bool:
    return np.array_equal(np.asarray(fast_decoder()(data)), np.asarray(decode(data)))


def test_what_has_too_many_parts_is_refused_as_by_exact_decoding() -> None:
    with pytest.raises(Undecodable, match="more than 65,536 segments"):
        fast_decoder()(segments((1 << 16) + 1, 0xEF, b""))


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    quality=st.integers(1, 100),
    sampling=st.sampled_from(["4:4:4", "4:2:2", "4:2:0"]),
    interval=st.sampled_from([0, 3]),
    seed=st.integers(0, 9),
)
def test_plain_jpegs_have_the_pixels_that_pillow_finds(
    height: int, width: int, quality: int, sampling: str, interval: int, seed: int
) -> None:
    data = jpeg(
        picture(height, width, seed), quality=quality, subsampling=sampling, restart_marker_blocks=interval
    )
    assert is_plain(data)
    assert isinstance(fast_decoder()(data), np.ndarray)
    assert same(data)


def test_what_is_not_plain_goes_the_exact_way() -> None:
    image = picture(40, 30)
    buffers = {}
    for kind in ("PNG", "WEBP", "BMP", "GIF", "TIFF"):
        buffers[kind] = io.BytesIO()
        image.save(buffers[kind], kind)
    others = {kind: buffer.getvalue() for kind, buffer in buffers.items()}
    others |= {
        "progressive": jpeg(image, progressive=True),
        "grey": jpeg(image.convert("L")),
        "CMYK": jpeg(image.convert("CMYK")),
        "turned": jpeg(image, exif=exif(6)),
        "mirrored": jpeg(image, exif=exif(2, order=">")),
        "turned by a long": jpeg(image, exif=exif(6, kind=4)),
        "turned by XMP": jpeg(image, xmp=b'<rdf tiff:Orientation="6"/>'),
        "16 bits": _png16(),
    }
    for name, data in others.items():
        assert not is_plain(data), name
        found = fast_decoder()(data)
        assert isinstance(found, Image.Image), name
        assert same(data), name


def _png16() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("order", ["<", ">"])
def test_upright_ones_with_metadata_are_plain(order: str) -> None:
    image = picture(20, 20)
    assert is_plain(jpeg(image, exif=exif(1, order=order)))
    assert is_plain(jpeg(image, xmp=b"<rdf/>", comment=b"a comment", icc_profile=b"profile" * 20000))
    assert same(jpeg(image, exif=exif(1, order=order)))


def test_odd_metadata_is_left_to_pillow() -> None:
    image = picture(20, 20)
    turned = exif(6)
    assert not is_plain(jpeg(image, exif=turned[:12]))  # it ends before its first entry
    assert not is_plain(jpeg(image, exif=b"Exif\0\0??" + turned[8:]))
    data = jpeg(image, exif=exif(1))
    assert not is_plain(data[:2] + _segment(0xE1, exif(1)) + data[2:])  # two directories
    assert same(data[:2] + _segment(0xE1, exif(1)) + data[2:])


def _segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def test_the_limits_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    data = jpeg(picture(60, 60), quality=30)
    assert is_plain(data)
    size = data.index(b"\xff\xc0") + 5
    assert not is_plain(data[:size] + struct.pack(">HH", 60000, 60000) + data[size + 4 :])
    assert not is_plain(data[:size] + struct.pack(">HH", 0, 60) + data[size + 4 :])
    monkeypatch.setattr(fast_decode, "MAX_SCANNED", 60 * 60)
    assert is_plain(data)
    monkeypatch.setattr(fast_decode, "MAX_SCANNED", 60 * 60 - 1)
    monkeypatch.setattr(exact, "MAX_SCANNED", 60 * 60 - 1)
    assert not is_plain(data)
    with pytest.raises(Undecodable, match="in more passes"):
        fast_decoder()(data)


@settings(max_examples=150, deadline=None)
@given(
    cut=st.integers(0, 1500), flips=st.lists(st.tuples(st.integers(0, 1500), st.integers(0, 255)), max_size=4)
)
def test_damaged_files_give_what_exact_decoding_gives(cut: int, flips: list[tuple[int, int]]) -> None:
    data = bytearray(jpeg(picture(48, 40), quality=70))
    for place, value in flips:
        data[place % len(data)] = value
    damaged = bytes(data[: len(data) - cut] if cut % 2 else data)
    reasons = []
    for one in (decode, fast_decoder()):
        try:
            reasons.append(np.asarray(one(damaged)).tobytes())
        except Undecodable as error:
            reasons.append(error.message)
    assert reasons[0] == reasons[1]


def test_without_simplejpeg_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    with pytest.raises(Unavailable, match="needs simplejpeg") as caught:
        fast_decoder()
    assert "pip install 'lsncli[fast]'" in caught.value.hint
    assert caught.value.exit_code == 5
