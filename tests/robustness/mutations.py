"""Real images in every format, and what time, networks and enemies do to them. Case n is always the same."""

import io
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

Mutation = Callable[[np.random.Generator, bytes, bytes], bytes]
"""Random numbers, an image's bytes, and those of another image, to damaged bytes."""


@dataclass(frozen=True)
class Case:
    """Mutated bytes, the format they had, what was done to them (several things, in order)."""

    data: bytes
    format: str
    done: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.format}: {', '.join(self.done)}"


def samples(photo: Image.Image) -> dict[str, bytes]:
    """A photo, made small, in every format and mode that is decoded. HEIC where pillow-heif is installed."""
    small = photo.convert("RGB").resize((97, 64))
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Maker"
    ramp = np.asarray(small.convert("L"), dtype=np.uint16) * 257
    clear = small.copy()
    clear.putalpha(small.convert("L"))
    other = small.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    frames = {"save_all": True, "append_images": [other]}
    wanted: dict[str, tuple[Image.Image, str, dict[str, object]]] = {
        "JPEG": (small, "JPEG", {"exif": exif}),
        "JPEG progressive": (small, "JPEG", {"progressive": True}),
        "JPEG CMYK": (small.convert("CMYK"), "JPEG", {}),
        "JPEG grey": (small.convert("L"), "JPEG", {}),
        "MPO": (small, "MPO", frames),
        "PNG": (small, "PNG", {"exif": exif}),
        "PNG 16 bit": (Image.fromarray(ramp), "PNG", {}),
        "PNG palette": (small.quantize(64), "PNG", {"transparency": 3}),
        "PNG alpha": (clear, "PNG", {}),
        "APNG": (small, "PNG", frames),
        "GIF": (small.quantize(64), "GIF", {"save_all": True, "append_images": [other.quantize(64)]}),
        "WebP": (small, "WEBP", {"exif": exif}),
        "WebP lossless": (clear, "WEBP", {"lossless": True}),
        "WebP animated": (small, "WEBP", frames),
        "BMP": (small, "BMP", {}),
        "BMP palette": (small.quantize(16), "BMP", {}),
        "TIFF": (small, "TIFF", {"exif": exif}),
        "TIFF LZW": (small, "TIFF", {"compression": "tiff_lzw"}),
        "TIFF deflate": (Image.fromarray(ramp), "TIFF", {"compression": "tiff_adobe_deflate"}),
        "TIFF JPEG": (small, "TIFF", {"compression": "jpeg"}),
        "TIFF float": (small.convert("F"), "TIFF", {}),
        "TIFF fax": (small.convert("1"), "TIFF", {"compression": "group4"}),
        "PPM": (small, "PPM", {}),
        "AVIF": (small, "AVIF", {"speed": 10}),
    }
    made = {}
    for name, (image, kind, options) in wanted.items():
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        made[name] = buffer.getvalue()
    try:
        from pillow_heif import from_pillow
    except ImportError:
        return made
    buffer = io.BytesIO()
    from_pillow(small).save(buffer)
    return made | {"HEIC": buffer.getvalue()}


def case(number: int, images: dict[str, bytes], seed: int = 0) -> Case:
    """The mutated image of this number: one to three mutations of one of ``images``."""
    random = np.random.default_rng([seed, number])
    names = list(images)
    name = names[int(random.integers(len(names)))]
    data, other = images[name], images[names[int(random.integers(len(names)))]]
    done = []
    for _ in range(int(random.choice([1, 1, 1, 2, 3]))):
        which = list(MUTATIONS)[int(random.integers(len(MUTATIONS)))]
        data = MUTATIONS[which](random, data, other)
        done.append(which)
    return Case(data, name, tuple(done))


def _truncate(random: np.random.Generator, data: bytes, other: bytes) -> bytes:
    return data[: _place(random, data)]


def _flip_bits(random: np.random.Generator, data: bytes, other: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(int(random.choice([1, 3, 10, 100]))):
        if changed:
            changed[_place(random, data)] ^= 1 << int(random.integers(8))
    return bytes(changed)


def _flip_header(random: np.random.Generator, data: bytes, other: bytes) -> bytes:
    """The same where it hurts: in the first bytes."""
    return _flip_bits(random, data[:200], other) + data[200:]


def _huge(random: np.random.Generator, data: bytes, other: bytes) -> bytes:
    """A length, an offset or a size in the header becomes huge, in either byte order."""
    value: bytes = random.choice(
        [b"\xff\xff", b"\xff\xff\xff\x7f", b"\x7f\xff\xff\xff", b"\0\0\1\0", b"\xff" * 8]
    )
    at = int(random.integers(max(1, min(len(data), 400))))
    return data[:at] + value + data[at + len(value) :]


def _wide(random: np.random.Generator, data: bytes, other: bytes) -> bytes:
    """The width as the format writes it becomes large, wherever the number occurs first."""
    large = int(random.choice([0, 1, 9000, 20000, 65535]))
    for order, size in (("big", 4), ("little", 4), ("big", 2), ("little", 2)):
        old, new = ((97).to_bytes(size, order), large.to_bytes(size, order))  # type: ignore[arg-type]
        if old in data[:600]:
            changed = data.replace(old, new, 1)
            if changed.startswith(b"\x89PNG"):  # else the checksum would end it at once
                changed = changed[:29] + zlib.crc32(changed[12:29]).to_bytes(4, "big") + changed[33:]
            return changed
    return data


def _zeros(random: np.random.Generator, data: bytes, other: bytes) -> bytes:
    at, length = _place(random, data), int(random.integers(1, 600))
    return data[:at] + bytes(min(length, len(data) - at)) + data[at + length :]


def _remove(random: np.random.Generator, data: bytes, other: bytes) -> bytes:
    at = _place(random, data)
    return data[:at] + data[at + int(random.integers(1, 600)) :]


def _repeat(random: np.random.Generator, data: bytes, other: bytes) -> bytes:
    at = _place(random, data)
    return data[:at] + data[at : at + int(random.integers(1, 600))] * int(random.integers(2, 40)) + data[at:]


def _splice(random: np.random.Generator, data: bytes, other: bytes) -> bytes:
    """The beginning of one image and the end of another, of any format."""
    return data[: _place(random, data)] + other[_place(random, other) :]


def _noise(random: np.random.Generator, data: bytes, other: bytes) -> bytes:
    at = _place(random, data)
    return data[:at] + random.bytes(int(random.integers(1, 2000)))


def _nothing(random: np.random.Generator, data: bytes, other: bytes) -> bytes:
    """Only the extension is wrong."""
    return data


def _place(random: np.random.Generator, data: bytes) -> int:
    return int(random.integers(max(1, len(data))))


MUTATIONS: dict[str, Mutation] = {
    "truncated": _truncate,
    "bits flipped": _flip_bits,
    "bits of the header flipped": _flip_header,
    "huge number": _huge,
    "huge width": _wide,
    "zeros": _zeros,
    "bytes removed": _remove,
    "bytes repeated": _repeat,
    "spliced": _splice,
    "noise": _noise,
    "wrong extension": _nothing,
}


def wrong_extension(number: int, extensions: Sequence[str]) -> str:
    """The extension that a case gets: any, whatever it is."""
    return extensions[number % len(extensions)]
