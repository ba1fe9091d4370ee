"""Commands that make stores, prompts and results, to be killed by kills.py."""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from lsncli.artefacts.files import load_checkpoint
from lsncli.backbones import openclip
from lsncli.bench import measured_table  # noqa: F401  (imported here, so that no child has to)
from lsncli.bench.results import Results
from lsncli.extraction import extract as extraction
from lsncli.store.reader import list_splits
from lsncli.training import checkpoints as resume
from tests.fixtures.bench_samples import PROMPTS, PROVENANCE, suite_text
from tests.fixtures.training_samples import features_of
from tests.robustness.killing import Subject, finished, start

CPU = ["--device", "cpu", "--quiet"]
EXTRACT = ["--model", "mini", "--batch-size", "4", "--workers", "2", *CPU]
EPOCHS = 30
SUITE = suite_text(epochs=3, coop_epochs=3, ood=["near"], rows=PROMPTS)


def noise(folder: Path, classes: int, count: int, seed: int) -> Path:
    """``count`` images of noise in each of ``classes`` folders."""
    random = np.random.default_rng(seed)
    for label in range(classes):
        place = folder / f"class {label}"
        place.mkdir(parents=True)
        for number in range(count):
            pixels = random.integers(0, 256, (40, 48, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(place / f"{number:03}.png")
    return folder


def hasten() -> None:
    """Commit after every batch and epoch instead of after seconds."""
    extraction.extract.__kwdefaults__["commit_seconds"] = 0.0
    resume.SAVE_SECONDS = 0.0


def extract(folder: Path) -> Subject:
    """150 images, two of them unreadable, committed after every batch."""
    images = noise(folder / "images", 3, 50, 1)
    for number in (7, 31):
        (images / "class 1" / f"{number:03}.png").write_bytes(b"")

    def words(work: Path) -> list[str]:
        return ["extract", str(images), "--work", str(work), *EXTRACT]

    return Subject("extract", words, items_done, files_of_store, hasten=hasten)


def extract_by_two(folder: Path) -> Subject:
    """The same by two processes that torchrun started, which share parts of eight images."""
    one = extract(folder)

    def words(work: Path) -> list[str]:
        return [*one.words(work), "--engine", "torchrun", "--part-rows", "8"]

    ranks = tuple({"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank)} for rank in range(2))
    return replace(one, name="extract-by-two", words=words, ranks=ranks)


def train(kind: str, folder: Path) -> Subject:
    """Prompts for three classes of made-up features, every epoch kept."""
    before = made_up_features(folder / "before")
    if kind == "negative":  # those need positive ones first
        first = ["train-pos", "--epochs", "1", "--context-length", "4", "--work", str(before), *CPU]
        finished([start(first, folder / "before.log")], folder / "before.log")

    def words(work: Path) -> list[str]:
        command = "train-pos" if kind == "positive" else "train-neg"
        # The kernel is named: the self-test of two processes might disagree, and so would their last bits.
        options = ["--epochs", str(EPOCHS), "--context-length", "4", "--kernel", "torch"]
        return [command, *options, "--work", str(work), *CPU]

    def kept(work: Path) -> frozenset[object]:
        if (work / f"{kind}.safetensors").exists():
            return frozenset(range(EPOCHS))
        found = load_checkpoint(work / f"{kind}.unfinished.safetensors")
        return frozenset(range(len(found.checkpoint.history) if found else 0))

    return Subject(f"train-{kind[:3]}", words, kept, _artefacts, before=before, hasten=hasten)


def bench(folder: Path) -> Subject:
    """Three sets of images, two sets of prompts, three rows of a table."""
    data = folder / "data"
    for seed, (name, count) in enumerate([("in-train", 6), ("in-test", 4), ("near", 4)]):
        noise(data / name, 3, count, seed)
    suite = folder / "noise.toml"
    suite.write_text(SUITE, encoding="utf-8")

    def words(work: Path) -> list[str]:
        what = ["--suite", str(suite), "--table", "mine", "--data", str(data)]
        return ["bench", *what, "--work", str(work), *CPU]

    def kept(work: Path) -> frozenset[object]:
        return items_done(work) | frozenset(Results(work / "results" / "noise.jsonl").read())

    def ended(work: Path) -> Mapping[str, bytes]:
        found = Results(work / "results" / "noise.jsonl").read()
        return {
            key: json.dumps({name: value for name, value in one.items() if name not in PROVENANCE}).encode()
            for key, one in found.items()
        }

    return Subject("bench", words, kept, ended, hasten=hasten)


def made_up_features(work: Path) -> Path:
    """A workspace whose store has 30 rows around one centre a class."""
    return features_of(openclip.load_mini("mini", "", "cpu", "fp32").fingerprint, work)


def items_done(work: Path) -> frozenset[object]:
    """Items of listings that are committed, by split: in a store, or in a piece of an unfinished split.

    A name ``rows-START-STOP.h5`` appears by a rename alone.
    """
    done: set[object] = set()
    for store in work.rglob("features.h5"):
        for name, info in list_splits(store).items():
            done |= {(name, item) for item in range(info.rows + len(info.failures))}
    for piece in work.rglob("features.h5.parts/**/rows-*.h5"):
        folders = piece.relative_to(work).parts
        split = folders[folders.index("features.h5.parts") + 1]
        if found := re.fullmatch(r"rows-(\d{12})-(\d{12})\.h5", piece.name):
            done |= {(split, item) for item in range(int(found[1]), int(found[2]))}
    return frozenset(done)


def files_of_store(work: Path) -> Mapping[str, bytes]:
    """The store, and the names of whatever else was left behind."""
    expected = ("features.h5", "results")
    others = {path.name: b"left behind" for path in work.iterdir() if path.name not in expected}
    return {"features.h5": (work / "features.h5").read_bytes()} | others


def _artefacts(work: Path) -> Mapping[str, bytes]:
    """Every file but the store; a kill amid a write may leave its hidden temporary file."""
    return {
        path.name: path.read_bytes()
        for path in work.iterdir()
        if path.is_file() and path.name != "features.h5" and not path.name.startswith(".")
    }
