"""The benchmark of word features runs, on tiny models, and compares equal things."""

import re

import numpy as np

from benchmarks.speed import words
from benchmarks.speed.models import text_model
from lsncli.methods.word_features import encode


def test_it_runs_and_prints_every_figure(capsys, monkeypatch) -> None:
    monkeypatch.setattr(words, "peak_in_new_process", lambda *arguments: {"process_mib": 512.0})
    words.main(["--tiny"])
    out = capsys.readouterr().out
    for text in ("open_clip, 77 tokens", "lsn", "one product", "neglabel", "memory of 128 words: 0.50 GiB"):
        assert text in out
    assert float(re.search(r"difference of a feature: (\S+)", out)[1]) < 1e-5


def test_the_plain_loop_is_what_the_fast_one_computes() -> None:
    model, some = text_model("tiny"), words.texts(9)
    assert len({text for each in some for text in each}) == 9
    np.testing.assert_allclose(words.plain(model, some).numpy(), encode(model.tower(), some), atol=1e-5)


def test_the_measured_memory_is_that_of_encoding() -> None:
    words.memory("tiny", 8)()
