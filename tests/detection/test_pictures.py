"""Images from a program: every kind gives the pixels of the same image in a file; others say why not."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from lsncli.detection.in_memory import load_pictures, open_picture
from lsncli.images.decode import decode
from lsncli.images.read import Undecodable


def tensor(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image.resize((4, 4)), dtype=np.float32)).permute(2, 0, 1)


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8))


def test_objects_arrays_and_files_of_one_image_are_the_same(photo, tmp_path) -> None:
    photo.save(tmp_path / "a.png")
    array = np.array(photo)
    for one in (photo, array, array / 255, (array / 255).astype(np.float32), tmp_path / "a.png"):
        assert np.array_equal(np.array(open_picture(one)), array)
    assert np.array_equal(np.array(open_picture(str(tmp_path / "a.png"))), array)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1", "LA", "I;16", "F"])
def test_pil_images_of_any_mode_are_read_as_files_are(photo, mode) -> None:
    grey = np.array(photo.convert("L"))
    special = {
        "I;16": Image.fromarray(grey.astype(np.uint16) * 257),
        "F": Image.fromarray(grey.astype(np.float32)),
    }
    image = special[mode] if mode in special else photo.convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, "TIFF" if mode in ("CMYK", "F") else "PNG")
    assert np.array_equal(np.array(open_picture(image)), np.array(decode(buffer.getvalue())))


def test_grey_and_transparent_arrays_are_read(photo) -> None:
    grey = np.array(photo.convert("L"))
    assert np.array_equal(np.array(open_picture(grey)), np.stack([grey] * 3, axis=2))
    assert np.array_equal(np.array(open_picture(grey[:, :, None])), np.array(open_picture(grey)))
    assert np.array_equal(np.array(open_picture(grey[:, :, None] / 255)), np.array(open_picture(grey)))
    clear = np.zeros((5, 5, 4), dtype=np.uint8)
    assert (np.array(open_picture(clear)) == 255).all()


def test_a_photo_on_its_side_is_turned(photo, tmp_path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    photo.save(tmp_path / "a.jpg", exif=exif)
    with Image.open(tmp_path / "a.jpg") as image:
        assert open_picture(image).size == (20, 30)


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (
            np.zeros((3, 20, 20), np.uint8),
            "shape (3, 20, 20), expected (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)",
        ),
        (np.zeros((0, 5)), "shape (0, 5)"),
        (np.zeros((5, 5, 2), np.uint8), "shape (5, 5, 2), expected (H, W), (H, W, 1)"),
        (np.zeros((5, 0, 1), np.uint8), "shape (5, 0, 1)"),
        (np.zeros((5, 5), np.int64), "an array of int64, expected uint8 or floats in [0, 1]"),
        (np.full((5, 5), 255.0), "floats from 255 to 255, expected [0, 1]"),
        (np.full((5, 5), np.nan), "nan or infinity, expected floats in [0, 1]"),
    ],
)
def test_arrays_that_cannot_be_meant_say_why(array, reason) -> None:
    with pytest.raises(Undecodable) as caught:
        open_picture(array)
    assert reason in caught.value.message


def test_batches_keep_the_order_and_failures_their_place(photo) -> None:
    pictures = [photo, "/nowhere/x.png", photo, np.zeros((2, 2, 7)), photo]
    batches = list(load_pictures(iter(pictures), tensor, batch_size=2, workers=3))
    assert [list(paths.values()) for paths, _ in batches] == [[None, "/nowhere/x.png"], [None, None], [None]]
    assert [len(batch.pixels) for _, batch in batches] == [1, 1, 1]
    assert [f.reason for f in batches[0][1].failures] == ["no such file"]
    keys = [key for paths, _ in batches for key in paths]
    assert len(set(keys)) == 5
    assert list(load_pictures([], tensor, batch_size=2, workers=1)) == []


def test_an_endless_iterable_is_read_a_few_batches_ahead(photo) -> None:
    asked = 0

    def endless():
        nonlocal asked
        while True:
            asked += 1
            yield photo

    stream = load_pictures(endless(), tensor, batch_size=4, workers=2)
    next(stream)
    assert asked == 8
    stream.close()


@pytest.mark.parametrize("wrong", [Image.new("RGB", (3, 3)), np.zeros((4, 4, 3)), np.zeros((4, 4))])
def test_a_single_image_in_place_of_several_is_refused(wrong) -> None:
    with pytest.raises(TypeError, match="put it into a list"):
        next(load_pictures(wrong, tensor, batch_size=1, workers=1))


def test_a_stack_of_arrays_is_several_images() -> None:
    ((paths, batch),) = load_pictures(np.zeros((3, 4, 4, 3), np.uint8), tensor, batch_size=9, workers=1)
    assert len(paths) == len(batch.pixels) == 3


def test_texts_of_numpy_are_paths(photo, tmp_path) -> None:
    photo.save(tmp_path / "a.png")
    ((paths, batch),) = load_pictures(
        np.array([str(tmp_path / "a.png"), "nowhere"]), tensor, batch_size=9, workers=1
    )
    assert list(map(type, paths.values())) == [str, str]
    assert len(batch.pixels) == len(batch.failures) == 1


@pytest.mark.parametrize("wrong", [None, 5])
def test_what_is_not_several_of_anything_is_refused(wrong) -> None:
    with pytest.raises(TypeError, match=f"or a path of them, found {type(wrong).__name__}"):
        next(load_pictures(wrong, tensor, batch_size=1, workers=1))


def test_what_is_no_image_is_refused() -> None:
    with pytest.raises(TypeError, match="found bytes"):
        next(load_pictures([b"abc"], tensor, batch_size=1, workers=1))


def test_a_single_picture_starts_no_thread(monkeypatch) -> None:
    class Started(Exception):
        pass

    def start(*_: object) -> None:
        raise Started

    monkeypatch.setattr("lsncli.images.decode_process.threads", start)
    picture = Image.new("RGB", (8, 8), "red")
    (one,) = load_pictures(iter([picture]), tensor, batch_size=4, workers=2)
    assert (one[0], len(one[1].pixels)) == ({"0": None}, 1)
    with pytest.raises(Started):
        list(load_pictures([picture, picture], tensor, batch_size=4, workers=2))
