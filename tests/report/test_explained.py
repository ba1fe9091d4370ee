"""An explanation as tables, as rows for programs, as a sheet and as json; names stay harmless."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from lsncli.detection.detect import Verdict
from lsncli.explanation.evidence import Evidence, LikelyClass, Measure, Neighbour, Reasons
from lsncli.explanation.saliency import Explanation, PromptMap
from lsncli.report import explanation_images as drawing
from lsncli.report.explanation_images import numbers, write_heat_maps
from lsncli.report.explanation_tables import print_explanation, titled_tables, to_rows

HOSTILE = "=1+1\x1b[31m\n\udcff.jpg"
LOOKS = (
    PromptMap("cat", 0, 0.3, np.eye(2) / 2),
    PromptMap("cat", 1, 0.1, np.array([[0.25, 0.25], [0, 0.5]])),
    PromptMap("cat", 2, 0.2, np.zeros((2, 2))),
)
FOUND = Explanation(np.full((8, 8, 3), 90, np.uint8), "cat", LOOKS)
VERDICT = Verdict("a.png", "cat", 0.2, 0.25, True, 0.3, -0.1)
MEASURES = (
    Measure("score", 0.2, 0.03),
    Measure("positive", 0.3, 0.5),
    Measure("negative", -0.1, 0.01),
    Measure("gamma", 0.25, 0.05),
)
WHY = Reasons(
    (LikelyClass("cat", 0.75, 0.3), LikelyClass("dog", 0.25, 0.2)),
    Evidence(VERDICT, "CoOp + LSN", MEASURES),
    (Neighbour(HOSTILE, "cat", 0.9), Neighbour("b.jpg", "", 0.5)),
    "train",
)
BARE = Reasons(WHY.likely, None, ())
FILES = ["p.png", "n1.png", "n2.png"]


def test_people_get_a_table_each_with_what_there_is() -> None:
    titles = [one.title for one in titled_tables(FOUND, WHY, FILES)]
    assert titles == [
        "OOD: the score is 0.050000 below gamma",
        "Most like",
        "Nearest images of the split train",
        "Where the prompts look",
    ]
    assert [one.title for one in titled_tables(replace(FOUND, maps=()), BARE, [])] == ["Most like"]


@pytest.mark.parametrize("name", ["table", "md", "tex"])
def test_tables_hold_the_numbers_and_no_name_breaks_out(tmp_path, name) -> None:
    print_explanation(FOUND, WHY, FILES, name, tmp_path / "out")
    text = (tmp_path / "out").read_text()
    for value in ("0.200000", "-0.100000", "75.0", "0.9000", "CoOp + LSN"):
        assert value in text
    assert "n1.png" not in text  # long names, which would break in pieces on a terminal; programs get them
    assert "\x1b" not in text
    if name == "md":  # one blank line at least before each table, or it would be no table
        assert text.count("\n\n|") == text.count("|\n|---") == 4
    if name == "tex":
        assert text.count("\\begin{tabular}") == text.count("\\end{tabular}") == 4


def test_programs_get_one_list_of_rows_of_the_same_columns(tmp_path) -> None:
    print_explanation(FOUND, WHY, FILES, "json", tmp_path / "out")
    rows = json.loads((tmp_path / "out").read_text())
    kinds = [row["what"] for row in rows]
    assert kinds == ["verdict", "class", "class", "nearest", "nearest", "prompt", "prompt", "prompt"]
    verdict, cat, *_ = rows
    wanted = {"class": "cat", "score": 0.2, "positive": 0.3, "negative": -0.1, "threshold": 0.25}
    assert {key: value for key, value in verdict.items() if value is not None} == {
        "what": "verdict",
        "is_ood": True,
        "below": 0.03,
        **wanted,
    }
    assert (cat["class"], cat["probability"], cat["cosine"], cat["score"]) == ("cat", 0.75, 0.3, None)
    assert [row["overlap"] for row in rows[5:]] == [None, 0.75, 0.0]
    assert (rows[7]["peak_x"], rows[6]["peak_x"], rows[6]["file"]) == (None, 0.75, "n1.png")
    print_explanation(FOUND, WHY, FILES, "csv", tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(newline="") as file:
        cells = list(csv.DictReader(file))
    assert list(cells[0]) == list(rows[0])
    assert cells[3]["key"].startswith("'=1+1")
    assert [row["what"] for row in to_rows(FOUND, BARE, FILES)] == ["class"] * 2 + ["prompt"] * 3


def test_the_sheet_begins_with_the_numbers(tmp_path) -> None:
    files = write_heat_maps(tmp_path, "a", FOUND, WHY)
    assert [path.name for path in files] == [
        "a.cat-positive.png",
        "a.cat-negative-1.png",
        "a.cat-negative-2.png",
    ]
    panels = numbers(WHY, 336)
    assert [text[0] for _, text in panels] == [
        "OOD: the score is 0.050000 below gamma",
        "Most like",
        "Nearest training images",
    ]
    assert len({image.size for image, _ in panels}) == 1
    assert all(np.asarray(image).min() < 100 for image, _ in panels)
    with Image.open(tmp_path / "a.explain.png") as sheet:
        assert sheet.size == (10 + 4 * 346, 10 + panels[0][0].height + 46 + 336 + 46)
        first = sheet.crop((10, 46, 346, 46 + panels[0][0].height))
        assert np.array_equal(np.asarray(first), np.asarray(panels[0][0]))


def test_bars_are_as_long_as_the_share_they_show() -> None:
    (panel, _) = numbers(BARE, 200)[0]
    pixels = np.asarray(panel)
    rows = [drawing.LINE_HEIGHT - 1, 2 * drawing.LINE_HEIGHT + drawing.GAP - 1]
    widths = [int((pixels[row] == drawing.BAR).all(axis=-1).sum()) for row in rows]
    assert widths == pytest.approx([150, 50], abs=2)


def test_json_holds_everything_even_names_that_are_no_text(tmp_path) -> None:
    write_heat_maps(tmp_path, "a", FOUND, WHY)
    found = json.loads((tmp_path / "a.explain.json").read_text())
    assert found["verdict"]["is_ood"] is True
    assert found["detector"] == "CoOp + LSN"
    assert [one["name"] for one in found["measures"]] == ["score", "positive", "negative", "gamma"]
    assert found["classes"][1] == {"class": "dog", "probability": 0.25, "cosine": 0.2}
    assert found["nearest"][0]["key"] == "=1+1\x1b[31m\n\\udcff.jpg"
    assert found["maps"][1]["weights"] == LOOKS[1].weights.tolist()
    assert found["maps"][0]["peak"] == [0.25, 0.25]


def test_without_looks_the_picture_and_the_numbers_remain(tmp_path) -> None:
    assert write_heat_maps(tmp_path, "a", replace(FOUND, maps=()), BARE) == []
    found = json.loads((tmp_path / "a.explain.json").read_text())
    assert (found["maps"], found["verdict"], found["nearest"]) == ([], None, [])
    with Image.open(tmp_path / "a.explain.png") as sheet:
        assert sheet.width == 10 + 346
