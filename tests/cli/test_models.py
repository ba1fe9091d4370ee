"""``lsn models``: what ``--model`` can name, for people and for programs."""

import json

import pytest

from lsncli.backbones import BACKBONES


def rows(done) -> list[dict]:
    assert done.code == 0, done.err
    return json.loads(done.out)


def test_it_lists_architectures_the_papers_first(lsn) -> None:
    found = rows(lsn("models", "--format", "json"))
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


@pytest.mark.parametrize("words", [[], ["--weights"]])
def test_the_table_fits_100_columns_and_cuts_nothing_off(lsn, words: list[str]) -> None:
    done = lsn("models", *words)
    assert done.code == 0, done.err
    assert max(map(len, done.out.splitlines())) <= 100
    assert "…" not in done.out
    assert "plain (" in done.out
