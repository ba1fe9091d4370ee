"""The study of copies: changes of images, shares that are found, and the decision that quotes them."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.accuracy import copies as use
from benchmarks.accuracy.copies import LIGHT, MEASURES, NAME, OTHER, SETS, STRONG, main
from benchmarks.records import read

DECISION = Path(__file__).parents[2] / "docs" / "decisions" / "0037-duplicates.md"
TITLES = ("Imagenette", "Textures", "Flowers", "Scenes", "Tiny-ImageNet", "CIFAR-10")


def test_every_change_gives_an_image_of_the_size_that_its_name_says() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 100, 3), np.uint8))
    sizes = {name: change(image).size for name, change in (LIGHT | STRONG | OTHER).items()}
    expected = {"3/4": (75, 60), "1/2": (50, 40), "2": (200, 160), "2 % less": (96, 76), "5 % less": (90, 72)}
    expected |= {"10 % less": (80, 64), "10 % less at two sides": (90, 72), "1/2, jpeg 75": (50, 40)}
    assert sizes == {name: expected.get(name, (100, 80)) for name in sizes}
    for name, change in (LIGHT | STRONG | OTHER).items():
        assert change(image).mode == "RGB"
        assert change(image).tobytes() != image.tobytes(), name


def test_copies_of_a_few_images_are_looked_for(tmp_path, capsys) -> None:
    random = np.random.default_rng(1)
    (tmp_path / "few").mkdir()
    for number in range(5):
        coarse = Image.fromarray(random.integers(0, 256, (6, 6, 3), np.uint8))
        coarse.resize((90, 90), Image.Resampling.BICUBIC).save(tmp_path / "few" / f"{number}.png")
    main(["--images", str(tmp_path), "--count", "2", "--sets", "few"])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()[2:]]
    assert [line[:2] for line in lines] == [["few", name] for name in MEASURES]
    shares = {line[1]: [int(number) for number in line[2:]] for line in lines}
    assert shares["0.97"][0] >= shares["0.98"][0] >= shares["0.99"][0] > 0
    assert shares["rule"][0] > 0


def test_the_decision_quotes_what_is_recorded() -> None:
    content, _ = read(NAME)
    assert content is not None
    text = DECISION.read_text(encoding="utf-8")
    rows = {
        title: [re.findall(r"\d+", cell) for cell in cells.split("|")]
        for title, cells in re.findall(r"^\| ([A-Z][\w-]+) \([^|]*\| (.*) \|$", text, re.MULTILINE)
    }
    assert tuple(rows) == TITLES
    for name, cells in zip(SETS, rows.values(), strict=True):
        found = content["sets"][name]
        for measure, cell in zip(("0.97", "0.98", "0.99", "rule"), cells, strict=True):
            values = found[measure]
            quoted = [f"{100 * values['light']:.0f}", f"{100 * values['strong']:.0f}", str(values["pairs"])]
            assert cell == quoted, f"{name}, {measure}"


def test_a_folder_must_be_named(monkeypatch) -> None:
    monkeypatch.delenv("LSN_IMAGES", raising=False)
    with pytest.raises(SystemExit):
        use.main([])
