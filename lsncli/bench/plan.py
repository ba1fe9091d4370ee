"""What must be done for a table: sets to extract, prompts to learn, lines to score; the cost of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lsncli.bench.bound import Bound, learned_file
from lsncli.bench.desk import Desk
from lsncli.bench.jobs import Line, Score, Stored, stored
from lsncli.bench.learning import Learning
from lsncli.bench.results import Record
from lsncli.errors import LsnError
from lsncli.images.sources import list_images


@dataclass(frozen=True)
class Job:
    """A piece of work, as people see it."""

    kind: str
    """extract, learn or score."""
    what: str
    label: str
    """Jobs of one label take time in proportion to their ``units``."""
    units: int | None
    """None where its size is not known yet."""
    done: bool
    blocked: str = ""
    """Why it cannot be done; empty if it can."""


@dataclass(frozen=True)
class Extract:
    """A job: the features of one set by one model."""

    set: str
    model: str
    images: Path | None
    """None if they are not there."""
    desk: Desk
    bundle: Path | None = None
    """A store that holds the features of these very images already."""

    def __str__(self) -> str:
        return f"features of {self.set}"

    @property
    def label(self) -> str:
        """What seconds of extraction are compared with."""
        if self.bundle:
            return "extract from the suite's features"
        return f"extract by {self.model or self.desk.model} on {self.desk.device}"

    @property
    def blocked(self) -> str:
        """Why it cannot be done; empty if it can."""
        if self.bundle or self.images is not None:
            return ""
        if self.desk.data is None:
            return f"no features of the set '{self.set}', and no --data DIR to make them from"
        return f"no features of the set '{self.set}', and no {self.desk.data / self.set}.tar or folder"

    def count(self) -> int | None:
        """How many images; None where they cannot be listed."""
        if self.bundle:
            return self.desk.bundled[self.set].rows
        try:
            return len(list_images([self.images], follow_links=True).items) if self.images else None
        except LsnError:
            return None


@dataclass(frozen=True)
class Plan:
    """All jobs of some lines by the state of the disk when it was made; ``known`` are results by key."""

    desk: Desk
    extracts: tuple[Extract, ...]
    scores: tuple[Score, ...]
    known: dict[str, Record]
    """Results by key."""
    skipped: dict[str, str]
    """Why lines have no jobs, by their names."""

    def done(self, score: Score) -> bool:
        """Whether all its results are known."""
        return all(key in self.known for key in score.keys.values())

    @cached_property
    def waiting(self) -> tuple[Score, ...]:
        """What must be scored, in an order in which those that share rows follow each other."""
        todo = [one for one in self.scores if not self.done(one)]
        places = [(one.line.model, str(one.place)) for one in todo]
        first = {place: number for number, place in reversed(list(enumerate(places)))}
        return tuple(
            one for _, one in sorted(zip(places, todo, strict=True), key=lambda pair: first[pair[0]])
        )

    @cached_property
    def lessons(self) -> dict[Path, tuple[Learning, Score]]:
        """What the waiting scores need to have been learned and is not, by the file it goes to."""
        found: dict[Path, tuple[Learning, Score]] = {}
        for score in self.waiting:
            for learning, key in score.learned.values():
                path = learned_file(score.work, key)
                if path not in found and not path.is_file():
                    found[path] = learning, score
        return found

    def jobs(self) -> Iterator[Job]:
        """Everything, done or not, in the order it is done in."""
        for one in self.extracts:
            yield Job("extract", str(one), one.label, one.count(), False, one.blocked)
        blocked = {one.set: one.blocked for one in self.extracts if one.blocked}
        seen: set[Path] = set()
        for score in self.scores:
            why = next((blocked[name] for name in score.missing if name in blocked), "")
            for learning, key in score.learned.values():
                path = learned_file(score.work, key)
                if path not in seen:
                    seen.add(path)
                    done = path.is_file() or path not in self.lessons
                    yield Job(
                        "learn",
                        lesson_name(learning, score),
                        label_of(learning, score),
                        units_of(learning, score),
                        done,
                        "" if done else why,
                    )
            yield Job("score", str(score), score_label(score), rows_of(score), self.done(score), why)


def make_plan(desk: Desk, lines: Sequence[Line], seeds: int = 1) -> Plan:
    """The jobs of ``lines`` from ``seeds`` seeds; those that are unavailable have none.

    Raises UsageError for a method that cannot be meant, LsnError for a store that cannot be read.
    """
    there: dict[str, Stored] = {}
    scores: list[Score] = []
    extracts: dict[tuple[str, str], Extract] = {}
    skipped: dict[str, str] = {}
    for line in lines:
        work: Bound = desk.workspace(line.model)
        if line.unavailable and not line.supplied(work):
            skipped[line.name] = line.unavailable
            continue
        if line.model not in there:
            there[line.model] = stored(work.features)
        for place in line.places:
            for seed in line.seeds(seeds):
                score = Score(line, place, seed, there[line.model], work)
                scores.append(score)
                for name in score.missing:
                    extracts[line.model, name] = _extract(desk, line.model, name)
    return Plan(desk, tuple(extracts.values()), tuple(scores), desk.results.read(), skipped)


def _extract(desk: Desk, model: str, name: str) -> Extract:
    """From the suite's own features if it has them and ``--data`` holds no other images of that name."""
    images = desk.images(name)
    there = desk.bundled.get(name) if not model else None
    same = there is not None and (images is None or _listing(images) == there.listing)
    return Extract(name, model, images, desk, desk.bundle if same else None)


def _listing(images: Path) -> str:
    """Which images these are; empty where they cannot be listed, which extraction will say."""
    try:
        return list_images([images], follow_links=True).digest
    except LsnError:
        return ""


def lesson_name(learning: Learning, score: Score) -> str:
    """What people call a lesson."""
    return f"{learning} for {score.place}, seed {score.seed}"


def score_label(score: Score) -> str:
    """What seconds of scoring are compared with."""
    learners = sorted(one.settings.learner for one in score.line.learnings if one.settings)
    return " ".join(["score", score.method.score, *learners, "by", score.line.model or "the model"])


def label_of(learning: Learning, score: Score) -> str:
    """What seconds of learning are compared with."""
    return f"learn {learning} by {score.line.model or 'the model'}"


def units_of(learning: Learning, score: Score) -> int | None:
    """The work of a lesson; None if its rows are not there yet."""
    rows, classes = score.there.rows(score.place.known), score.there.classes(score.place.known)
    return None if rows is None else learning.work(rows, len(classes))


def rows_of(score: Score) -> int | None:
    """How many rows a score looks at; None if they are not there yet."""
    counts = [score.there.rows(part) for part in (score.place.test, *score.place.ood.values())]
    return None if None in counts else sum(count for count in counts if count is not None)
