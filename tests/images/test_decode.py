"""One image: every kind of pixel comes out right, every kind of damage has a reason."""

import io
import os
import socket
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lsncli.images.decode import decode
from lsncli.images.item import ImageItem
from lsncli.images.listing import list_images
from lsncli.images.read import Undecodable, read_bytes


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pixels(data: bytes) -> np.ndarray:
    image = decode(data)
    assert image.mode == "RGB"
    return np.asarray(image)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "GIF", "WEBP"])
def test_a_lossless_image_has_its_own_pixels(kind: str) -> None:
    values = noise(5, 7, 3) if kind != "GIF" else np.full((5, 7, 3), 90, np.uint8)
    options = {"lossless": True} if kind == "WEBP" else {}
    assert (pixels(encoded(Image.fromarray(values), kind, **options)) == values).all()


def test_a_jpeg_equals_what_open_clip_reads() -> None:
    data = encoded(Image.fromarray(noise(40, 30, 3)), "JPEG")
    assert (pixels(data) == np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))).all()


def test_a_cmyk_jpeg_becomes_rgb() -> None:
    data = encoded(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), "JPEG")
    assert np.abs(pixels(data).astype(int) - [0, 255, 255]).max() < 8


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    for kind in ("PNG", "TIFF"):
        found = pixels(encoded(Image.fromarray(ramp), kind))[..., 0]
        assert (found == np.rint(ramp / 257)).all()


def test_integers_and_floats_are_brought_into_range() -> None:
    def grey(values: np.ndarray) -> list[int]:
        return pixels(encoded(Image.fromarray(values), "TIFF"))[0, :, 0].tolist()

    assert grey(np.array([[0, 257, 65535]], np.int32)) == [0, 1, 255]
    assert grey(np.array([[-100, 0, 100]], np.int32)) == [0, 128, 255]
    assert grey(np.array([[0, 0.5, 1]], np.float32)) == [0, 128, 255]
    assert grey(np.array([[0, 7, 255]], np.float32)) == [0, 7, 255]
    assert grey(np.array([[-1e-3, 0, 3e-3]], np.float32)) == [0, 64, 255]
    with pytest.raises(Undecodable, match="not finite"):
        grey(np.array([[0, np.nan]], np.float32))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA"])
def test_opaque_images_of_other_modes_are_as_they_look(mode: str) -> None:
    data = encoded(Image.new("RGB", (4, 4), (255, 255, 255)).convert(mode), "PNG")
    assert (pixels(data) == 255).all()


def test_an_animation_gives_its_first_frame() -> None:
    red, blue = Image.new("RGB", (4, 4), (255, 0, 0)), Image.new("RGB", (4, 4), (0, 0, 255))
    for kind, options in (("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {})):
        data = encoded(red, kind, save_all=True, append_images=[blue], **options)
        assert (pixels(data) == [255, 0, 0]).all(), kind


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"<!DOCTYPE html><html>404</html>", "HTML page"),
        (b"  <html>", "HTML page"),
        (b"<svg xmlns='x'/>", "SVG"),
        (b'{"error": 1}', "JSON"),
        (b"PK\x03\x04....", "ZIP"),
        (b"%PDF-1.7", "PDF"),
        (b"version https://git-lfs.github.com/spec/v1", "Git LFS"),
        (b"\xff\x0a\xfa\x1f", "a JPEG XL image, which is not supported"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (b"8BPS\0\1", "Photoshop"),
        (bytes(5000), "all zeros"),
        (b"\x89PNG\r\n\x1a\n", "begins like a PNG image"),
        (b"\xff\xd8\xff\xe0", "begins like a JPEG image"),
        (b"hello world", "starts with 68 65 6c"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
    ],
)
def test_what_is_no_image_says_what_it_looks_like(data: bytes, reason: str) -> None:
    with pytest.raises(Undecodable, match=reason):
        decode(data)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "BMP"])
def test_an_image_cut_short_is_refused(kind: str) -> None:
    data = encoded(Image.fromarray(noise(64, 64, 3)), kind)
    with pytest.raises(Undecodable, match=r"truncated|damaged"):
        decode(data[: len(data) // 2])


def test_a_truncated_jpeg_says_so() -> None:
    data = encoded(Image.fromarray(noise(64, 64, 3)), "JPEG")
    with pytest.raises(Undecodable, match="truncated"):
        decode(data[:-200])


@given(
    st.binary(max_size=200), st.sampled_from(["JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP", "PPM"]), st.data()
)
def test_random_damage_gives_an_image_or_a_reason(junk: bytes, kind: str, data: st.DataObject) -> None:
    whole = bytearray(encoded(Image.fromarray(noise(12, 12, 3)), kind))
    at = data.draw(st.integers(0, len(whole)))
    whole[at : at + len(junk)] = junk
    try:
        image = decode(bytes(whole))
    except Undecodable:
        return
    assert image.mode == "RGB"


def item(path: Path) -> ImageItem:
    return ImageItem(path.name, str(path))


def test_paths_that_cannot_be_read_have_short_reasons(tmp_path: Path) -> None:
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    for name, reason in [
        ("loop.jpg", "a symbolic link loop"),
        ("folder.jpg", "is a folder"),
        ("pipe.jpg", "not a regular file"),
        ("none.jpg", "no such file"),
    ]:
        with pytest.raises(Undecodable) as caught:
            read_bytes(item(tmp_path / name))
        assert caught.value.message == reason


def test_sockets_devices_and_impossible_names_have_reasons(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s.jpg")  # the whole path may be longer than a socket's name can be
        for path in (tmp_path / "s.jpg", Path("/dev/zero")):
            with pytest.raises(Undecodable, match="not a regular file"):
                read_bytes(item(path))
    for name, reason in (("a\0.jpg", "cannot be read"), ("x" * 300, "path is too long"), ("a/b", "no such")):
        with pytest.raises(Undecodable, match=reason):
            read_bytes(ImageItem("a", name))


def test_a_file_that_becomes_a_pipe_does_not_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    regular = os.stat(__file__)
    monkeypatch.setattr(os, "stat", lambda path: regular)  # what it was when it was looked at
    with pytest.raises(Undecodable):
        read_bytes(item(tmp_path / "a.jpg"))


def test_permission_denied_has_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")

    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(Undecodable, match="permission denied"):
        read_bytes(item(tmp_path / "a.jpg"))


def test_a_tar_that_shrank_since_it_was_listed_is_a_failure(tmp_path: Path) -> None:
    from test_sources import make_tar

    make_tar(tmp_path / "t.tar", {"c/a.jpg": b"12345"})
    (listed,) = list_images([tmp_path / "t.tar"]).items
    assert read_bytes(listed) == b"12345"
    os.truncate(tmp_path / "t.tar", 514)
    with pytest.raises(Undecodable, match="its tar changed since it was listed"):
        read_bytes(listed)


def test_a_huge_file_is_not_even_read(tmp_path: Path) -> None:
    with open(tmp_path / "a.tif", "wb") as file:
        file.truncate(3 << 30)  # sparse: it takes no space
    with pytest.raises(Undecodable, match=r"too large: 3\.0 GiB"):
        read_bytes(item(tmp_path / "a.tif"))


@pytest.mark.skipif(os.name == "nt", reason="Pillow's wheels for Windows hide libtiff")
def test_libtiff_prints_nothing_of_its_own(capfd) -> None:
    whole = encoded(Image.fromarray(noise(64, 64, 3)), "TIFF", compression="tiff_adobe_deflate")
    broken = whole[:200] + b"broken here" + whole[211:]
    with pytest.raises(Undecodable, match="damaged: "):
        decode(broken)
    assert capfd.readouterr() == ("", "")
