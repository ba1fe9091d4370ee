"""Heat over pictures: where it is, how bright it is, and sheets that hold every panel."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from lsncli.errors import LsnError
from lsncli.report import explanation_images

PICTURE = np.full((32, 48, 3), (90, 120, 200), np.uint8)


def test_heat_lies_where_the_weight_is_and_the_rest_is_grey() -> None:
    weights = np.zeros((2, 3))
    weights[0, 2] = 1
    made = np.asarray(explanation_images.overlay(PICTURE, weights), dtype=int)
    height, width = made.shape[:2]
    assert (width, height) == (336, 224)
    cold, hot = made[-height // 8, width // 8], made[height // 8, -width // 8]
    assert cold.max() - cold.min() <= 1
    assert hot[0] > hot[2] + 50


def test_brightness_grows_with_weight_even_without_hue() -> None:
    luminance = explanation_images.STOPS @ np.array([0.299, 0.587, 0.114])
    assert (np.diff(luminance) > 20).all()


def test_scale_does_not_matter_and_no_weight_at_all_is_grey() -> None:
    weights = np.random.default_rng(1).random((3, 3))
    one, many = (np.asarray(explanation_images.overlay(PICTURE, weights * scale)) for scale in (1, 1e-6))
    assert (abs(one.astype(int) - many) <= 1).all()
    none = np.asarray(explanation_images.overlay(PICTURE, np.zeros((3, 3))), dtype=int)
    assert (none.max(axis=-1) - none.min(axis=-1)).max() <= 1


def test_large_pictures_keep_their_size() -> None:
    assert explanation_images.panel(np.zeros((400, 500, 3), np.uint8)).size == (500, 400)


def test_a_sheet_holds_rows_of_different_length_and_long_texts() -> None:
    image = explanation_images.panel(PICTURE)
    made = explanation_images.sheet([[(image, ("x" * 200, "\x1b[31m"))], [(image, ("a", "b"))] * 3])
    assert made.size == (10 + 3 * 346, 10 + 2 * (224 + 10 + 36))
    right = np.asarray(made)[: 224 + 46, 357:]
    assert (right == 255).all()  # the long text ends with its panel


def test_rows_of_a_sheet_have_their_own_height() -> None:
    image = explanation_images.panel(PICTURE)
    low = Image.new("RGB", (image.width, 50), "red")
    made = explanation_images.sheet([[(low, ("a", "b"))] * 3, [(image, ("c", "d"))]])
    assert made.size == (10 + 3 * 346, 10 + (50 + 10 + 36) + (224 + 10 + 36))
    assert made.getpixel((12, 10 + 36 + 25)) == (255, 0, 0)


def test_texts_lose_their_end_or_their_start() -> None:
    made = Image.new("RGB", (10, 10))
    draw, font = ImageDraw.Draw(made), ImageFont.load_default(13)
    whole = "folder/" * 20 + "end.jpg"
    first, last = (explanation_images.fitting(draw, whole, font, 120, end=end) for end in (True, False))
    assert first.startswith("folder/")
    assert first.endswith("…")
    assert last.startswith("…")
    assert last.endswith("/end.jpg")
    assert max(draw.textlength(one, font) for one in (first, last)) <= 120
    assert (
        explanation_images.fitting(draw, whole, font, 1)
        == explanation_images.fitting(draw, whole, font, 1, end=False)
        == ""
    )
    assert explanation_images.fitting(draw, "a\n", font, 99) == "a\\n"


def test_a_picture_that_cannot_be_written_is_an_error(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LsnError, match="cannot be written"):
        explanation_images.save(Image.new("RGB", (2, 2)), tmp_path / "file" / "x.png")
