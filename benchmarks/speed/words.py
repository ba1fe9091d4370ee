"""Text features of words: against a plain loop of 77 tokens, from the cache, their memory, and the score.

    python -m benchmarks.speed.words [--quick | --tiny]

Words are a sample of WordNet's in NegLabel's prompts, the text tower is ViT-B/32's with random weights. The
plain loop tokenizes with open_clip and encodes batches of 64 texts padded to 77 tokens. Ratios are of CPU
time with one thread. The score is ``neglabel`` of 10,000 images against the words that the rule keeps for ten
classes, compared with one matrix product of that size in float64. Only the full form writes
results/words.json.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.records import record
from benchmarks.speed.models import PAPER, Model, text_model
from benchmarks.speed.peak import peak_in_new_process
from benchmarks.speed.timing import Rows, interleaved, table
from lsncli.methods.cache import Cache
from lsncli.methods.text_recipes import RECIPES, wordnet_pool
from lsncli.methods.word_features import AT_ONCE, WordEncoder, encode
from lsncli.scores.neglabel import VOCABULARY, NegLabel
from lsncli.types import Head, unit

GOAL, SCORE_GOAL, MEMORY_GOAL = 7.0, 2.0, 1.5
PLAIN_BATCH = 64


@dataclass(frozen=True)
class Form:
    """The size of a run."""

    model: str
    words: int
    rounds: int
    images: int
    cached: int
    """Words that are read from the cache."""


FULL = Form(PAPER, 512, 3, 10_000, 70_859)
QUICK = Form(PAPER, 128, 2, 2000, 8192)
TINY = Form("tiny", 32, 1, 50, 64)


def texts(count: int) -> list[list[str]]:
    """Return the texts of ``count`` words, spread over WordNet."""
    every = RECIPES["neglabel"].texts(wordnet_pool())
    return [every[row] for row in np.linspace(0, len(every) - 1, count).astype(int)]


@torch.no_grad()
def plain(model: Model, words: list[list[str]]) -> Tensor:
    """Encode texts padded to 77 tokens, as open_clip does."""
    flat = [text for each in words for text in each]
    parts = [
        model.clip.encode_text(model.tokenizer(flat[start : start + PLAIN_BATCH]), normalize=True)
        for start in range(0, len(flat), PLAIN_BATCH)
    ]
    return torch.cat(parts)


def encoding(form: Form) -> tuple[Rows, float]:
    """Time both ways on the same words; return the rows and the largest difference of a feature."""
    model, words = text_model(form.model), texts(form.words)
    tower = model.tower()
    difference = float(np.abs(plain(model, words).numpy() - encode(tower, words)).max())
    variants = {"open_clip, 77 tokens": lambda: plain(model, words), "lsn": lambda: encode(tower, words)}
    return interleaved(variants, form.rounds, clock="cpu"), difference


def memory(name: str, count: int):  # type: ignore[no-untyped-def]
    """Prepare to encode words in chunks, for ``peak``."""
    tower, words = text_model(name).tower(), texts(count)

    def work() -> None:
        with tempfile.TemporaryDirectory() as folder:
            WordEncoder(tower, "model", cache=Cache(Path(folder)))(words)

    return work


def reading(form: Form) -> float:
    """Return the seconds to read the features of ``form.cached`` words from the cache."""
    model, words = text_model(form.model), texts(form.cached)
    with tempfile.TemporaryDirectory() as folder:
        encoder = WordEncoder(model.tower(), "model", cache=Cache(Path(folder)))
        features = np.random.default_rng(0).normal(size=(form.cached, model.features)).astype(np.float32)
        for start, key in encoder.chunks(words):
            encoder.keep(key, features[start : start + AT_ONCE])
        began = time.perf_counter()
        encoder(words)
        return time.perf_counter() - began


def scoring(form: Form) -> Rows:
    """Time ``neglabel`` and one matrix product of the same size."""
    random = np.random.default_rng(1)
    dim, words = 512 if form.model == PAPER else 16, min(11_500, form.cached)
    images = random.normal(size=(form.images, dim)).astype(np.float32)
    head = Head(tuple(map(str, range(10))), unit(random.normal(size=(10, dim))), 100.0)
    vocabulary = unit(random.normal(size=(words, dim))).astype(np.float32)
    score = NegLabel().scorer(head, {VOCABULARY: vocabulary})
    wide, doubles = vocabulary.astype(np.float64).T.copy(), images.astype(np.float64)

    def product() -> None:
        for start in range(0, len(doubles), 1024):
            doubles[start : start + 1024] @ wide

    def whole() -> None:
        for start in range(0, len(images), 1024):
            score(images[start : start + 1024])

    return interleaved({"one product": product, "neglabel": whole}, form.rounds, clock="cpu")


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print; the full form is recorded."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--tiny", action="store_true")
    arguments = parser.parse_args(argv)
    form = TINY if arguments.tiny else QUICK if arguments.quick else FULL
    torch.set_num_threads(1)
    encoded, difference = encoding(form)
    table(f"{form.words} words, {form.model} (goal: at least {GOAL:g} times as fast)", encoded)
    print(f"  largest difference of a feature: {difference:.1e}")
    peak = peak_in_new_process("benchmarks.speed.words:memory", form.model, 4 * form.words)
    print(f"  memory of {4 * form.words} words: {peak['process_mib'] / 1024:.2f} GiB (goal {MEMORY_GOAL})")
    seconds = reading(form)
    print(f"  {form.cached:,} words from the cache: {seconds:.2f} s (goal: less than 1)")
    scored = scoring(form)
    table(f"{form.images} images, goal: at most {SCORE_GOAL:g} products", scored)
    if form is FULL:
        figures = {
            "encoding": encoded,
            "difference": difference,
            "memory": peak,
            "reading_s": seconds,
            "scoring": scored,
        }
        record("words", figures)


if __name__ == "__main__":
    main()
