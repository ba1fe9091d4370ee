"""How a file is built decides who decodes it; what has too many parts is refused by their number."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from slow_images import REFUSED, STRIPPED, WATCHED, encoded, riff, segments

from lsncli.images import decode_process
from lsncli.images.decode import decode, decode_here
from lsncli.images.listing import list_images
from lsncli.images.read import Undecodable, read_bytes
from lsncli.images.structure import HEAVY, QUICK, read_structure
from tests.robustness.mutations import samples

IMAGES = os.environ.get("LSN_IMAGES", "")
PHOTOS = ("photos-original", "tinyimagenet-val", "textures-dtd10")


def unasked(data: bytes) -> Image.Image:
    raise AssertionError("another process was asked")


@pytest.mark.parametrize("name", REFUSED)
def test_too_many_parts_are_refused_before_anything_is_decoded(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, reason = REFUSED[name]
    monkeypatch.setattr(decode_process, "decode", unasked)
    monkeypatch.setattr(Image, "open", unasked)
    with pytest.raises(Undecodable, match=reason):
        decode(make())


@pytest.mark.parametrize("name", STRIPPED)
def test_metadata_of_too_many_parts_is_left_out_but_for_the_orientation(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, turned = STRIPPED[name]
    data = make()
    assert read_structure(data) == HEAVY
    opened = []
    real = Image.open

    def counting(file, **options):
        opened.append(len(file.getvalue()))
        return real(file, **options)

    monkeypatch.setattr(Image, "open", counting)
    found = np.asarray(decode_here(data))
    assert opened == [opened[0]]
    assert opened[0] < len(data)  # Pillow saw none of it
    kind = name.split()[-1] if "among" not in name else "PNG"
    plain = np.asarray(decode_here(encoded("JPEG" if kind == "JPEG" else kind)))
    assert (found == (plain[::-1, ::-1] if turned else plain)).all()


@pytest.mark.parametrize("name", WATCHED)
def test_what_may_take_long_is_not_quick(name: str) -> None:
    build = read_structure(WATCHED[name]())
    assert not build.quick
    assert not build.heavy


def test_ordinary_files_of_every_format_are_quick() -> None:
    sklearn = pytest.importorskip("sklearn")
    photo = Image.open(Path(sklearn.__file__).parent / "datasets/images/flower.jpg")
    slow = {name for name, data in samples(photo).items() if not read_structure(data).quick}
    assert slow <= {"AVIF", "HEIC"}  # images made of images
    assert read_structure(encoded("JPEG", exif=b"Exif\0\0" + bytes(60_000))) == QUICK
    assert read_structure(segments(100, 0xE2, bytes(60_000))) == QUICK
    assert read_structure(riff(100)) == QUICK
    assert read_structure(b"P6\n# by a scanner\n2 2\n255\n" + bytes(12)) == QUICK
    assert read_structure(b"RIFF\0\0\0\0WAVE") == QUICK  # for nothing decodes it


@pytest.mark.skipif(
    not all((Path(IMAGES) / f"{name}.tar").is_file() for name in PHOTOS),
    reason=f"LSN_IMAGES must name a folder with {', '.join(f'{name}.tar' for name in PHOTOS)}",
)
def test_real_photos_are_quick() -> None:
    for name in PHOTOS:
        items = list_images([Path(IMAGES) / f"{name}.tar"]).items
        builds = [read_structure(read_bytes(item)) for item in items]
        assert len(builds) >= 50
        assert builds.count(QUICK) == len(builds), name


@pytest.mark.parametrize("start", [b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"P5", b"II*\0"])
def test_files_that_end_early_are_looked_at_without_an_error(start: bytes) -> None:
    for length in range(40):
        read_structure(start + b"\x01" * length)
        read_structure(start + b"\xff" * length)
