"""Words for images from a list: the nearest ones, by the stored features."""

import json
from pathlib import Path

import numpy as np
import pytest
from workspace_samples import workspace

from lsncli.errors import UsageError
from lsncli.methods.candidates import WordFeatures, propose, read_candidates, read_vocabulary
from lsncli.store.reader import read_split

WORDS = ("sofa", "tree", "lamp", "stone", "river")


def test_an_image_gets_the_words_of_the_largest_cosines_nearest_first(tmp_path, tiny_backbone) -> None:
    work = workspace(tmp_path / "work", tiny_backbone.fingerprint)
    split = read_split(work.features, "near")
    features = WordFeatures(tiny_backbone.text_tower())
    seen: list[int] = []
    propose(work, split, WORDS, features, 3, lambda count, note="": seen.append(count))
    lines = [json.loads(text) for text in work.candidates("near").read_text().splitlines()]
    assert [line["key"] for line in lines] == list(split.keys)
    vectors = features(WORDS).astype(np.float64)
    for line, row in zip(lines, split.features.astype(np.float64), strict=True):
        cosine = {word: v @ row / np.linalg.norm(row) for word, v in zip(WORDS, vectors, strict=True)}
        assert line["candidates"] == sorted(WORDS, key=lambda word: -cosine[word])[:3]
    assert sum(seen) == len(split.keys)
    assert len(read_candidates(work, split).indices) == 3 * len(split.keys)


@pytest.mark.parametrize("top", [0, 6])
def test_no_more_words_than_there_are(tmp_path, tiny_backbone, top) -> None:
    work = workspace(tmp_path / "work", tiny_backbone.fingerprint)
    features = WordFeatures(tiny_backbone.text_tower())
    with pytest.raises(UsageError, match=f"expected 1 to 5, the number of words, found {top}"):
        propose(work, read_split(work.features, "near"), WORDS, features, top)
    assert not work.candidates("near").exists()


def test_a_list_is_a_class_list_or_a_file_with_a_word_a_line(tmp_path: Path) -> None:
    assert len(read_vocabulary("imagenet1k")) == 1000
    path = tmp_path / "words.txt"
    path.write_bytes("\ufeff  steam   engine \n\nTree\ntree\r\nÄpfel".encode())
    assert read_vocabulary(str(path)) == ("steam engine", "tree", "Äpfel")


@pytest.mark.parametrize(
    ("content", "wrong"), [(b"", "holds no word"), (b"\xff\xfe", "cannot be read"), (None, "imagenet1k")]
)
def test_a_list_that_cannot_be_meant_is_refused(tmp_path: Path, content, wrong) -> None:
    path = tmp_path / "words.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        read_vocabulary(str(path))
    assert wrong in str(caught.value) + caught.value.hint
