"""Faults in files: stores, artefacts and parts that were cut short, flipped, swapped or made to do harm.

Imported by tests/robustness/faults.py for its table.
"""

import json
import random
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from lsncli.store.reader import list_splits, read_split
from lsncli.store.verify import verify
from tests.robustness import hostile
from tests.robustness.faultlab import (
    EXTRACT,
    Ended,
    Lab,
    Wrong,
    check,
    fault,
    pieces,
    sentence,
    until_committed,
)
from tests.robustness.kills_making import CPU

CASES = 40
"""Places that are tried with whole commands."""
MORE_CASES = 800


def flipped(data: bytes, place: int) -> bytes:
    """``data`` with one bit of byte ``place`` the other way."""
    return data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :]


def spread(size: int, count: int) -> list[int]:
    """``count`` places all over a file, one at random in each stretch of it."""
    choose = random.Random(size)
    return [choose.randrange(size * i // count, size * (i + 1) // count) for i in range(count)]


def content_of(store: Path) -> dict[str, object]:
    """Everything that can be read from a store."""
    found = {}
    for name in list_splits(store):
        split = read_split(store, name)
        rows = (split.features.tobytes(), split.labels.tobytes(), split.keys)
        found[name] = (*rows, split.classes, split.failures, split.source, split.listing)
    return found


@fault("store cut short")
def store_cut(lab: Lab, place: Path) -> str:
    work = lab.workspace(place)
    sound = (work / "features.h5").read_bytes()
    said = ""
    for size in (0, 4, 100, *spread(len(sound), CASES), len(sound) - 1):
        (work / "features.h5").write_bytes(sound[:size])
        said = sentence(lab.lsn("store", "verify", "--work", work), 1, "features.h5")
        sentence(
            lab.lsn("eval", "--id", "train", "--ood", "far", "--method", "mcm", "--work", work, *CPU), 1, ""
        )
    return f"all {CASES + 4} lengths: {said}"


@fault("store with a flipped bit")
def store_flipped(lab: Lab, place: Path) -> str:
    """Whole commands at some places, the same check in this process at many more."""
    work = lab.workspace(place)
    store, harmless = work / "features.h5", 0
    sound, content = store.read_bytes(), content_of(store)
    for spot in spread(len(sound), MORE_CASES):
        store.write_bytes(flipped(sound, spot))
        if not verify(store):
            check(content_of(store) == content, f"byte {spot} changes the content, and nobody says so")
            harmless += 1
    said = ""
    for spot in spread(len(sound), CASES):
        store.write_bytes(flipped(sound, spot))
        ended = lab.lsn("store", "verify", "--work", work)
        if ended.code:
            said = sentence(ended, 1, "is not sound|damaged")
    share = f"{harmless} of {MORE_CASES} were in padding and change nothing"
    return f"found in every byte that says anything ({share}): {said}"


@fault("detector with a flipped bit, or cut short")
def detector_flipped(lab: Lab, place: Path) -> str:
    work = lab.workspace(place)
    path, image = work / "detector.safetensors", lab.images / "class 0" / "000.png"
    sound, said = path.read_bytes(), ""
    changes = [flipped(sound, spot) for spot in spread(len(sound), CASES)]
    for data in (*changes, *(sound[:size] for size in (0, 9, len(sound) // 2, len(sound) - 1))):
        path.write_bytes(data)
        said = sentence(lab.lsn("score", image, "--work", work, *CPU), 1, "detector.safetensors")
    return f"all {len(changes) + 4} places: {said}"


@fault("a cached result that was damaged")
def cache_damaged(lab: Lab, place: Path) -> str:
    work = lab.workspace(place)
    words = [
        "eval",
        "--id",
        "train",
        "--ood",
        "far",
        "--method",
        "mcm",
        "--format",
        "json",
        "--work",
        work,
        *CPU,
    ]
    expected = lab.well(*words).said
    kept = list((work / "cache").rglob("*.safetensors"))
    check(bool(kept), "nothing was kept")
    for path in kept:
        path.write_bytes(flipped(path.read_bytes(), path.stat().st_size - 3))
    numbers = [json.loads(text) for text in (expected, lab.well(*words).said)]
    check([row["auroc"] for row in numbers[0]] == [row["auroc"] for row in numbers[1]], "other numbers")
    return f"{len(kept)} damaged entries count as none; the same numbers"


def _each(names: Iterable[str], attempt: Callable[[str], Ended], wanted: str, code: int = 1) -> str:
    """``attempt`` every case; all that were not met as they should be are named."""
    wrong, seconds, mib, said = [], 0.0, 0.0, ""
    names = list(names)
    for name in names:
        try:
            ended = attempt(name)
            said = sentence(ended, code, wanted)
            seconds, mib = max(seconds, ended.seconds), max(mib, ended.mib)
        except Wrong as error:
            wrong.append(f"{name}: {error}")
    check(not wrong, "; ".join(wrong))
    return f"{len(names)} files, at most {seconds:.1f} s and {mib:.0f} MiB each; the last: {said}"


HARMLESS = {"hard link loop"}
"""Names beside the splits that no reader looks at; verifying must still come to an end."""


@fault("hostile HDF5")
def hostile_stores(lab: Lab, place: Path) -> str:
    work = lab.workspace(place)
    sound = (work / "features.h5").read_bytes()

    def attempt(name: str) -> Ended:
        (work / "features.h5").write_bytes(sound)
        hostile.make_hostile(work / "features.h5", hostile.STORES[name])
        harmed = (work / "features.h5").read_bytes()
        for words in (
            ["store", "info"],
            ["eval", "--id", "train", "--ood", "far", "--method", "mcm", *CPU],
        ):
            ended = lab.lsn(*words, "--work", work)
            if ended.code:
                sentence(ended, 1, "")
        ended = lab.lsn("store", "verify", "--work", work)
        check((work / "features.h5").read_bytes() == harmed, f"{name}: the file was changed")
        return ended

    for name in HARMLESS:
        check(attempt(name).code == 0, f"{name}: refused")
    return _each(hostile.STORES.keys() - HARMLESS, attempt, "is not sound|damaged|format_version")


@fault("hostile safetensors")
def hostile_artefacts(lab: Lab, place: Path) -> str:
    work, files = lab.workspace(place), hostile.safetensors()
    image = lab.images / "class 0" / "000.png"

    def attempt(name: str) -> Ended:
        (work / "detector.safetensors").write_bytes(files[name])
        return lab.lsn("score", image, "--work", work, *CPU)

    return _each(files, attempt, "detector.safetensors")


@fault("detector with fields of other types")
def hostile_fields(lab: Lab, place: Path) -> str:
    work = lab.workspace(place)
    path, image = work / "detector.safetensors", lab.images / "class 0" / "000.png"
    files = hostile.forged(path.read_bytes())
    for name, data in files.items():
        path.write_bytes(data)
        ended = lab.lsn("score", image, "--work", work, *CPU)
        if ended.code:  # some values are as good as those they take the place of
            sentence(ended, ended.code, "")
            check(ended.code in (1, 2, 4, 5), f"{name}: exit code {ended.code}")
    return f"{len(files)} forged detectors: a verdict or one sentence"


def _unfinished(lab: Lab, place: Path, *more: object) -> Path:
    """A workspace whose extraction was killed when six pieces were committed."""
    work = place / "work"
    killed = lab.begin("extract", lab.images, "--work", work, *EXTRACT, *more)
    until_committed(killed, work, 6)
    killed.kill()
    killed.wait()
    return work


@fault("piece cut short, flipped or removed")
def pieces_harmed(lab: Lab, place: Path) -> str:
    def cut(path: Path) -> None:
        path.write_bytes(path.read_bytes()[:-700])

    def flip(path: Path) -> None:
        path.write_bytes(flipped(path.read_bytes(), path.stat().st_size - 100))

    harms: dict[str, Callable[[Path], object]] = {"cut": cut, "flip": flip, "remove": Path.unlink}
    for name, harm in harms.items():
        work = _unfinished(lab, place / name)
        harm(pieces(work)[2])
        lab.same_end(work)
    return f"{', '.join(harms)}: it and what follows is made again, and the end is identical"


@fault("piece of another extraction")
def piece_foreign(lab: Lab, place: Path) -> str:
    work = _unfinished(lab, place)
    other = shutil.copytree(lab.images, place / "other")
    for path in sorted(other.rglob("*.png"))[:9]:
        # Another size makes it another listing; bytes behind a PNG's end are no harm.
        path.write_bytes((lab.images / "class 2" / "030.png").read_bytes() + b" ")
    theirs = place / "theirs"
    killed = lab.begin("extract", other, "--work", theirs, *EXTRACT)
    until_committed(killed, theirs, 6)
    killed.kill()
    killed.wait()
    shutil.copy(pieces(theirs)[1], pieces(work)[1])
    return f"not believed; {lab.same_end(work)}"


@fault("hostile plan.json")
def plan_hostile(lab: Lab, place: Path) -> str:
    work = _unfinished(lab, place)
    path = next((work / "features.h5.parts").rglob("plan.json"))
    sound = json.loads(path.read_text())
    huge = {**sound, "items": 10**18, "part_rows": 4}
    texts = [hostile.DEEP, "", "[]", "{", '{"items": 1e999}', "\0" * 5000, "9" * 10_000, json.dumps(huge)]
    texts += [json.dumps({**sound, name: junk}) for name in sound for junk in hostile.JUNK]
    started, copy = 0, place / "copy"
    for text in texts:
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(work, copy)
        (copy / path.relative_to(work)).write_text(text)
        ended = lab.lsn("extract", lab.images, "--work", copy, *EXTRACT)
        if ended.code:
            sentence(ended, 1, "had other arguments|damaged")
        else:
            started += 1
            check((copy / "features.h5").read_bytes() == lab.whole, f"{text[:60]}: another features.h5")
    return f"{len(texts)} plans: {started} are started anew and end identical, the others are refused"
