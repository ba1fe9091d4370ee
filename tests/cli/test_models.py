"""``lsn models`` and ``lsn methods``: what ``--model`` and ``--method`` can name, for people and programs."""

import json

import pytest

from lsncli.backbones import BACKBONES, DEFAULT_MODEL
from lsncli.backbones.recommended import RECOMMENDED
from lsncli.scores import SCORES
from lsncli.scores.summaries import SUMMARIES


def rows(done) -> list[dict]:
    assert done.code == 0, done.err
    return json.loads(done.out)


def test_it_lists_architectures_the_papers_first(lsn) -> None:
    found = rows(lsn("models", "--all", "--format", "json"))
    assert [row["name"] for row in found[:3]] == ["mini", "ViT-B-16-quickgelu", "ViT-B-32-quickgelu"]
    assert found[1] == {
        "name": "ViT-B-16-quickgelu",
        "dim": 512,
        "image_size": 224,
        "text": "512 x 12",
        "weights": len(rows(lsn("models", "vit-b-16-quickgelu", "--weights", "--format", "json"))),
        "text_path": "fast",
        "kind": "open_clip",
        "about": BACKBONES["open_clip"].about,
    }
    assert len(found) > 100


def test_a_part_of_a_name_filters(lsn) -> None:
    names = [row["name"] for row in rows(lsn("models", "siglip2", "--format", "json"))]
    assert names
    assert all("SigLIP2" in name for name in names)
    done = lsn("models", "nothing-like-it")
    assert (done.code, done.out) == (2, "")
    assert "No architecture has 'nothing-like-it' in its name" in done.err


def test_weights_are_listed_as_the_option_takes_them(lsn) -> None:
    found = rows(lsn("models", "RN50-", "--weights", "--format", "json"))
    about = {"dim": 1024, "image_size": 224, "text_path": "fast", "kind": "open_clip"}
    assert (about | {"model": "RN50-quickgelu:openai"}).items() <= found[0].items()
    assert [row["model"] for row in rows(lsn("models", "mini", "--weights", "--format", "json"))] == ["mini"]


def test_the_recommended_models_name_mini_and_the_default(lsn) -> None:
    done = lsn("models")
    assert done.code == 0, done.err
    assert f"Default: {DEFAULT_MODEL}. All others: lsn models --all" in done.err
    found = rows(lsn("models", "--format", "json"))
    assert [row["model"] for row in found][:2] == ["mini", DEFAULT_MODEL]
    assert found[1] == {
        "model": DEFAULT_MODEL,
        "megabytes": 598,
        "dim": 512,
        "image_size": 224,
        "about": "the default; the paper's model",
    }
    assert all(row["model"] in done.out and str(row["megabytes"]) in done.out for row in found)


def test_each_recommended_model_is_a_line_of_80_columns(lsn, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = lsn("models").out.splitlines()
    assert len(lines) == 2 + len(RECOMMENDED)
    assert max(map(len, lines)) <= 80


def test_each_score_is_a_line_of_80_columns(lsn, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    done = lsn("methods")
    lines = done.out.splitlines()
    assert len(lines) == 2 + len(SCORES)
    assert max(map(len, lines)) <= 80
    assert lines[2].split() == ["mcm", "Ming", "2022", "largest", "softmax", "of", "the", "cosines"]
    assert all(summary in done.out for summary in SUMMARIES.values())
    assert SUMMARIES.keys() == SCORES.keys()
    assert "Reduced forms: odin, dualcoop" in done.err


def test_a_score_is_described_with_its_formula_needs_and_settings(lsn) -> None:
    shown = lsn("methods", "nnguide").out
    assert "S(x) = E(x) * mean_b(E(b) cos(x, b))" in shown
    assert "Needs: features, a head (default: hand), training rows." in shown
    assert "Settings: k=10, fraction=1.0." in shown
    assert "Settings: none." in lsn("methods", "msp").out
    assert "Needs: features, a head (default: hand), labelled training rows.\n" in lsn("methods", "rpl").out
    assert max(map(len, lsn("methods", "vos").out.splitlines())) <= 100


@pytest.mark.parametrize("words", [["--all"], ["--weights"]])
def test_the_table_fits_100_columns_and_cuts_nothing_off(lsn, words: list[str]) -> None:
    done = lsn("models", *words, "--wide")
    assert done.code == 0, done.err
    assert max(map(len, done.out.splitlines())) <= 100
    assert "…" not in done.out
    assert "plain (" in done.out
