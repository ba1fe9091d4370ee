"""``lsn words`` and ``--words``: what is there, what a choice keeps, and what a detector keeps of it."""

import csv
import io
import json
import re
from pathlib import Path

import pytest
from cli_runner import exit_code
from PIL import Image

from lsncli.artefacts.detector import load_detector
from lsncli.evaluation import demo
from lsncli.methods import inputs, words
from lsncli.methods.words import SELECTION
from lsncli.scores.common import VOCABULARY

MINI = ["--model", "mini", "--device", "cpu"]


def test_the_files_of_wordnet_are_counted(lsn) -> None:
    rows = json.loads(lsn("words", "--format", "json").out)
    assert sum(row["words"] for row in rows) == 90_562
    by_file = {row["file"]: row for row in rows}
    assert not by_file["noun.animal"]["neglabel"]
    assert (by_file["adj.pert"]["neglabel"], by_file["adj.pert"]["csp"]) == (True, False)


def test_words_of_a_file_are_all_taken_but_those_that_spell_a_class(lsn, tmp_path) -> None:
    Path("mine.txt").write_text("sofa\ndogs\nwindow\nbeagle\n")
    done = lsn("words", "--classes", "cat, dog", "--words", "mine.txt", *MINI, "--format", "csv")
    assert done.code == 0, done.err
    rows = list(csv.DictReader(io.StringIO(done.out)))
    assert {row["word"] for row in rows} == {"sofa", "window", "beagle"}
    assert [float(row["cosine"]) for row in rows] == sorted(
        (float(row["cosine"]) for row in rows), reverse=True
    )
    assert "Dropped: spells a class: 1 (dogs)." in done.err
    assert "3 of 4 words of mine.txt are far from the classes." in done.err
    done = lsn("words", "--classes", "cat, dog", "--words", "mine.txt", "--drop", "kinds", *MINI)
    assert "Dropped: kind of a class: 1 (beagle)." in done.err
    assert lsn("words", "--classes", "cat", "--words", "none.txt", *MINI).code == 2


def test_people_see_the_nearest_words_of_the_default_list(lsn) -> None:
    done = lsn("words", "--classes", "cat,dog", *MINI)
    assert done.code == 0, done.err
    assert len(done.out.splitlines()) == 22
    assert "words of imagenet1k are far from the classes; these 20 are the nearest." in done.err
    rows = json.loads(lsn("words", "--classes", "cat,dog", *MINI, "--format", "json").out)
    assert 700 < len(rows) < 800


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Image.linear_gradient("L").convert("RGB").save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_score_compares_with_the_words_that_are_named(lsn, photo) -> None:
    Path("mine.txt").write_text("".join(f"{word}\n" for word in ("sofa", "window", "beagle", "truck")))
    words = ["--classes", "cat,dog", *MINI, "--format", "json"]
    (usual,) = json.loads(lsn("score", photo, *words).out)
    (mine,) = json.loads(lsn("score", photo, *words, "--words", "mine.txt").out)
    assert usual["score"] != mine["score"]
    assert mine["threshold"] == pytest.approx(2 / (2 + 4))
    done = lsn("score", photo, "--words", "mine.txt")
    assert done.code == 2
    assert "--words goes with --classes" in done.err


def test_a_detector_keeps_the_words_and_scores_without_a_text_tower(
    lsn, photo, tmp_path, monkeypatch
) -> None:
    Path("mine.txt").write_text("".join(f"{word}\n" for word in ("sofa", "window", "beagle", "truck")))
    words = ["--classes", "cat,dog", "--words", "mine.txt", *MINI]
    assert lsn("calibrate", photo, *words).code == 0
    detector = load_detector(tmp_path / "lsn-work" / "detector.safetensors")
    assert detector.settings["words"] == "mine.txt"
    assert detector.learned[VOCABULARY].shape == (4, 256)
    assert detector.learned[SELECTION].shape == (32,)
    Path("mine.txt").unlink()
    assert exit_code("score", str(photo), "--device", "cpu", "--quiet") == 0


def test_filters_hold_for_the_list_of_the_mini_model_too(lsn) -> None:
    def chosen(*words: str) -> tuple[set[str], str]:
        done = lsn("words", "--classes", "dog,boat", *MINI, *words, "--format", "json")
        return {row["word"] for row in json.loads(done.out)}, done.err

    every, plain = chosen()
    some, said = chosen("--drop", "kinds")
    assert "kind of a class" not in plain
    dropped = re.search(r"Dropped: kind of a class: \d+ \((.*?)(, \.\.\.)?\)", said)[1].split(", ")
    assert dropped
    assert some.isdisjoint(dropped)
    assert some != every


def test_the_time_to_encode_words_is_said_once(tmp_path, monkeypatch) -> None:
    said: list[str] = []
    (tmp_path / "mine.txt").write_text("".join(f"word{n}\n" for n in range(3000)))
    choice = words.choice_for(str(tmp_path / "mine.txt"), "mini")
    usual = words.announcing
    now = iter([0.0, 30.0])
    monkeypatch.setattr(words, "announcing", lambda *given: usual(*given, clock=now.__next__))
    progress = words.announcing_words(choice, "mini", said.append)
    for _ in range(3):
        progress(1000)
    assert said == ["Encoding 1,000 words with mini, once for this model, takes about 30 s."]


def test_eval_and_calibrate_say_how_long_words_take(lsn, tmp_path, monkeypatch) -> None:
    told: list[tuple[str, bool]] = []
    usual = inputs.announcing_words

    def announcing_words(choice, model, remark):
        remark("words take long")
        told.append((model, choice.name == "mine.txt"))
        return usual(choice, model, remark)

    monkeypatch.setattr(inputs, "announcing_words", announcing_words)
    imported = demo.prepare_demo(tmp_path / "lsn-work")
    assert imported.work.features.is_file()
    Path("mine.txt").write_text("sofa\nwindow\nbeagle\n")
    method = ["--method", "neglabel,words=mine.txt", "--device", "cpu"]
    for command in (["eval", *method, "--no-cache"], ["calibrate", *method]):
        done = lsn(*command)
        assert done.code == 0, done.err
        assert "words take long" in done.err
    assert set(told) == {("mini", True)}
