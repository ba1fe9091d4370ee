"""Candidate labels of a split: proposed, imported, read again, and scored with ZOC."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from workspace_samples import CLASSES

from lsncli.errors import LsnError, UsageError
from lsncli.methods.candidates import WordFeatures, import_candidates, read_candidates, zoc_of_split
from lsncli.methods.heads import make_head
from lsncli.methods.workspace import Workspace
from lsncli.prompts.text_features import text_features
from lsncli.scores.zoc import zoc_scores
from lsncli.store.format import Split
from lsncli.store.reader import read_split
from lsncli.types import unit


@pytest.fixture
def split(work: Workspace) -> Split:
    return read_split(work.features, "near")


def words_of(found) -> list[list[str]]:
    return [[found.words[i] for i in found.indices[a:b]] for a, b in pairwise(found.indptr)]


def write_csv(path: Path, split: Split, *, header: bool = True) -> Path:
    rows = [f"{key},sofa;word{number}" for number, key in enumerate(split.keys)]
    path.write_text("\n".join([*(["key,candidates"] if header else []), *reversed(rows)]) + "\n")
    return path


@pytest.mark.parametrize("header", [True, False])
def test_words_of_ones_own_are_matched_by_key(tmp_path, work, split, header) -> None:
    import_candidates(work, split, write_csv(tmp_path / "words.csv", split, header=header))
    found = read_candidates(work, split)
    assert words_of(found) == [["sofa", f"word{number}"] for number in range(len(split.keys))]
    assert found.words.count("sofa") == 1
    lines = [json.loads(text) for text in work.candidates("near").read_text().splitlines()]
    assert [line["key"] for line in lines] == list(split.keys)


@pytest.mark.parametrize("header", ["file_name", "Image Path", "id", "key"])
def test_a_header_of_any_usual_name_is_no_image(tmp_path, work, split, header) -> None:
    path = write_csv(tmp_path / "words.csv", split, header=False)
    tabs = path.read_text().replace(",", "\t")
    for name, text in (("words.csv", path.read_text()), ("words.tsv", tabs)):
        separator = "," if name.endswith("csv") else "\t"
        (tmp_path / name).write_text(f"{header}{separator}words{separator * (header == 'id')}\n{text}")
        assert len(import_candidates(work, split, tmp_path / name)) == len(split.keys)


def test_json_lines_are_read_as_they_are_written(tmp_path, work, split) -> None:
    import_candidates(work, split, write_csv(tmp_path / "words.csv", split))
    first = work.candidates("near").read_bytes()
    again = import_candidates(work, split, work.candidates("near"))
    assert work.candidates("near").read_bytes() == first
    assert list(again) == list(split.keys)


def test_words_are_tidied_and_other_images_passed_over(tmp_path, work) -> None:
    keys = ("a,b.png", 'with "quotes".png', "caf\udce9.png")  # the last is no UTF-8
    split = Split("odd", np.ones((3, 2), np.float16), np.full(3, -1, np.int32), keys)
    text = '"a,b.png", Sofa ;;sofa; red   bird\n"with ""quotes"".png",\n'
    text += 'caf\udce9.png,"tea, cup"\nother.png,x\n\n'
    path = tmp_path / "words.CSV"
    path.write_text("\ufeff" + text, encoding="utf-8", errors="surrogateescape")
    import_candidates(work, split, path)
    assert words_of(read_candidates(work, split)) == [["sofa", "red bird"], [], ["tea, cup"]]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("w.csv", "a.png,x,y\n", "line 1: expected a key and words, found 3 columns"),
        ("w.csv", 'a.png,"x"y\n', "line 1: "),
        ("w.csv", "a.png,x\na.png,y\n", "names the image 'a.png' twice"),
        ("w.jsonl", '{"key": "a.png", "candidates": []}\n{"key": "b.png"}\n', r"line 2: expected .*KeyError"),
        ("w.jsonl", '{"key": "a.png", "candidates": "dog"}\n', "line 1: expected .*list of texts"),
        ("w.jsonl", '{"key": 1, "candidates": []}\n', "line 1: expected .*list of texts"),
        ("w.jsonl", '["a.png"]\n', "line 1: expected"),
        ("w.jsonl", "a.png: dog\n", "line 1: expected .*JSONDecodeError"),
        ("w.csv", None, "w.csv cannot be read: No such file"),
    ],
)
def test_files_that_cannot_be_meant_are_refused_by_line(tmp_path, work, split, name, text, message) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match=message):
        import_candidates(work, split, tmp_path / name)
    assert not work.candidates("near").exists()


def test_images_without_a_line_are_counted_and_the_first_is_named(tmp_path, work, split) -> None:
    path = write_csv(tmp_path / "words.csv", split, header=False)
    kept = path.read_text().splitlines()[3:]  # reversed: the last three images are gone
    path.write_text("\n".join(kept))
    with pytest.raises(LsnError, match=r"lacks 3 of the 9 images of split 'near', such as 'near/006.jpg'"):
        import_candidates(work, split, path)
    with pytest.raises(LsnError, match="no candidate labels for split 'near'") as caught:
        read_candidates(work, split)
    assert "lsn candidates" in caught.value.hint
    work.candidates("near").parent.mkdir()
    work.candidates("near").write_text('{"key": "near/000.jpg", "candidates": []}\n')
    with pytest.raises(LsnError, match="lacks 8 of the 9 images"):
        read_candidates(work, split)


def of_texts(backbone, texts: list[str]) -> np.ndarray:
    model, tokenizer = backbone.model, backbone.tokenizer
    with torch.no_grad():
        return unit(model.encode_text(tokenizer(texts)).numpy())


@pytest.mark.parametrize("own_prompt", [True, False])
def test_zoc_of_a_split_is_the_softmax_of_zocs_prompts(
    tmp_path, work, split, tiny_backbone, own_prompt
) -> None:
    path = tmp_path / "words.csv"
    rows = [f"{key},DOG;sofa;{'tree' if n % 2 else ''}" for n, key in enumerate(split.keys)]
    path.write_text("\n".join(rows))
    import_candidates(work, split, path)
    head = make_head(work, "hand", CLASSES, negatives=False, model=lambda: tiny_backbone)
    found = zoc_of_split(
        split,
        head,
        read_candidates(work, split),
        WordFeatures(tiny_backbone.text_tower()),
        own_prompt=own_prompt,
    )
    template = "This is a photo of a {}" if own_prompt else "a photo of a {}"
    text = of_texts(tiny_backbone, [template.format(name) for name in CLASSES])
    words = of_texts(tiny_backbone, ["This is a photo of a sofa", "This is a photo of a tree"])
    for number, x in enumerate(unit(split.features)):
        others = words[: 1 + number % 2]  # "DOG" is a class
        exponentials = np.exp(100 * np.concatenate([text @ x, others @ x]))
        expected = -exponentials[len(CLASSES) :].sum() / exponentials.sum()
        assert found[number] == pytest.approx(expected, rel=2e-3)


def test_a_word_is_encoded_once_whatever_asks_for_it(tiny_backbone, monkeypatch) -> None:
    asked: list[str] = []

    def count(tower, texts):
        asked.extend(texts)
        return text_features(tower, texts)

    monkeypatch.setattr("lsncli.methods.candidates.text_features", count)
    monkeypatch.setattr("lsncli.methods.candidates.AT_ONCE", 2)
    ticks: list[int] = []
    words = WordFeatures(tiny_backbone.text_tower(), lambda step, note="": ticks.append(step))
    first = words(["cat", "dog", "cat", "sofa"])
    second = words(["sofa", "tree", "cat"])
    assert asked == [f"This is a photo of a {word}" for word in ("cat", "dog", "sofa", "tree")]
    assert ticks == [2, 1, 1]
    assert np.array_equal(first[2], first[0])
    assert np.array_equal(second[[0, 2]], first[[3, 0]])
    np.testing.assert_allclose(np.linalg.norm(second, axis=1), 1, rtol=1e-6)


def test_images_without_any_words_have_the_highest_score(work, split, tiny_backbone) -> None:
    work.candidates("near").parent.mkdir()
    lines = [json.dumps({"key": key, "candidates": ["cat"] if n else []}) for n, key in enumerate(split.keys)]
    work.candidates("near").write_text("\n".join(lines))
    head = make_head(work, "hand", CLASSES, negatives=False, model=lambda: tiny_backbone)
    words = WordFeatures(tiny_backbone.text_tower())
    found = read_candidates(work, split)
    assert zoc_of_split(split, head, found, words, own_prompt=False).tolist() == [0] * 9
    scores = zoc_scores(head, split.features, found, words(found.words))
    assert scores[0] == 0
    assert (scores[1:] < 0).all()
