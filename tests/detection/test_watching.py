"""What arrives is read once, when it has settled; what changes is read again; nothing is lost."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from lsncli.detection import watch as watching
from lsncli.detection.detect import Verdict
from lsncli.detection.watch import Watcher, rounds
from lsncli.detection.watch_log import open_log
from lsncli.report.formats import plain

FIELDS = ["path", "score", "error"]


@pytest.fixture
def place(tmp_path: Path):
    """A watched folder; ``content`` is what the fake model reads of a file."""
    (tmp_path / "in").mkdir()

    class Place:
        folder, rows_path = tmp_path / "in", tmp_path / "watch.jsonl"
        before_reading = staticmethod(lambda path: None)
        after_reading = staticmethod(lambda path: None)

        def __init__(self) -> None:
            self.start()

        def start(self) -> None:
            self.context = open_log(self.rows_path, FIELDS, plain)
            self.watcher = Watcher(self.folder, self.context.__enter__(), self.detect)

        def restart(self) -> None:
            self.context.__exit__(None, None, None)
            self.start()

        def detect(self, listing):
            """A file's score is the number that it holds; two at a time, as they were asked for."""
            yield (
                0,
                [
                    Verdict(path, error=one.reason)
                    for path, one in zip(listing.problem_paths, listing.problems, strict=True)
                ],
            )
            for start in range(0, len(listing.items), 2):
                batch = [self.judged(item.path) for item in listing.items[start : start + 2]]
                yield len(batch), batch

        def judged(self, path: str) -> Verdict:
            self.before_reading(path)
            try:
                score = float(Path(path).read_text())
            except (OSError, ValueError) as error:
                return Verdict(path, error=type(error).__name__)
            self.after_reading(path)
            return Verdict(path, "cat", score, 1.0, score < 1)

        def put(self, name: str, content: object, time: int = 1_000) -> None:
            (self.folder / name).write_text(str(content))
            os.utime(self.folder / name, ns=(time, time))

        def step(self) -> list[str]:
            """One look: the names and scores (or reasons) that got a row."""
            before = len(self.rows())
            said = [one for batch in self.watcher.score(self.watcher.look()) for one in batch]
            rows = self.rows()[before:]
            assert [one.path for one in said] == [row["path"] for row in rows]
            return [
                f"{row['path'].removeprefix(f'{self.folder}/')} {row['error'] or row['score']}"
                for row in rows
            ]

        def rows(self) -> list[dict]:
            return [json.loads(line) for line in self.rows_path.read_text().splitlines()]

    made = Place()
    yield made
    made.context.__exit__(None, None, None)


def test_a_file_is_read_when_two_looks_saw_it_alike(place) -> None:
    for size in range(1, 4):
        place.put("a.jpg", "1" * size)
        assert place.step() == []
        assert place.watcher.waiting == 1
    assert place.step() == ["a.jpg 111.0"]
    assert place.watcher.waiting == 0
    assert place.step() == place.step() == []


def test_a_change_of_the_time_alone_keeps_it_waiting(place) -> None:
    for time in range(3):
        place.put("a.jpg", 5, time=time)
        assert place.step() == []
    assert place.step() == ["a.jpg 5.0"]


def test_clocks_that_jump_change_nothing(place) -> None:
    """Files of the future, of before 1970, and of a clock that goes back between two looks."""
    future, past = 2**62, -(10**18)
    place.put("a.jpg", 1, time=future)
    place.put("b.jpg", 2, time=past)
    assert place.step() == []
    assert place.step() == ["b.jpg 2.0", "a.jpg 1.0"]
    place.put("a.jpg", 3, time=past)  # written later, with an older time
    assert place.step() == []
    assert place.step() == ["a.jpg 3.0"]
    place.restart()
    assert place.step() == place.step() == []


def test_the_oldest_come_first_and_hidden_and_other_files_never(place) -> None:
    for name, time in (("a.jpg", 30), ("b.jpg", 10), ("c.jpg", 20), (".d.jpg", 1), ("e.jpg.part", 1)):
        place.put(name, 2, time)
    assert place.step() == []
    assert place.step() == ["b.jpg 2.0", "c.jpg 2.0", "a.jpg 2.0"]


def test_a_change_is_scored_again_and_so_is_a_change_back(place) -> None:
    for content, time in ((1, 10), (2, 20), (1, 10)):
        place.put("a.jpg", content, time)
        assert [place.step() for _ in range(3)] == [[], [f"a.jpg {content}.0"], []]


def test_nothing_is_scored_twice_after_a_restart_and_what_came_meanwhile_is(place) -> None:
    place.put("a.jpg", 1)
    assert [place.step(), place.step()] == [[], ["a.jpg 1.0"]]
    place.put("b.jpg", 2)
    place.restart()
    assert [place.step(), place.step(), place.step()] == [[], ["b.jpg 2.0"], []]


def test_the_next_start_does_what_a_death_between_batches_left(place) -> None:
    for name in "abcde":
        place.put(f"{name}.jpg", 3)
    place.step()
    batches = place.watcher.score(place.watcher.look())
    next(batches), next(batches)
    batches.close()
    assert [row["path"][-5:] for row in place.rows()] == ["a.jpg", "b.jpg"]
    place.restart()
    assert [place.step(), place.step()] == [[], ["c.jpg 3.0", "d.jpg 3.0", "e.jpg 3.0"]]


def test_what_cannot_be_read_has_a_row_and_is_tried_again_when_it_changes(place) -> None:
    place.put("a.jpg", "no number")
    assert [place.step() for _ in range(3)] == [[], ["a.jpg ValueError"], []]
    place.restart()
    assert [place.step() for _ in range(3)] == [[], [], []]
    place.put("a.jpg", 4)
    assert [place.step(), place.step()] == [[], ["a.jpg 4.0"]]


def test_a_change_of_permissions_is_a_change_for_what_was_unreadable_alone(place) -> None:
    place.put("a.jpg", 1)
    place.put("b.jpg", "no number")
    place.step(), place.step()
    for name in ("a.jpg", "b.jpg"):
        (place.folder / name).chmod(0o600)
    assert [place.step(), place.step()] == [[], ["b.jpg ValueError"]]


def test_what_changes_while_it_is_read_gets_the_row_of_its_last_state(place) -> None:
    place.put("a.jpg", 1)
    place.put("b.jpg", 2)
    place.step()
    place.after_reading = lambda path: path.endswith("b.jpg") and place.put("b.jpg", 33)
    assert place.step() == ["a.jpg 1.0"]
    place.after_reading = lambda path: None
    assert [place.step(), place.step()] == [[], ["b.jpg 33.0"]]


def test_what_is_replaced_while_it_is_read_under_its_size_and_time_is_read_again(place) -> None:
    """Nobody can set the time of change (ctime) by hand."""
    place.put("a.jpg", 1)
    place.step()

    def replace(path: str) -> None:
        before = os.stat(path).st_ctime_ns
        place.put("a.jpg", 2)
        while os.stat(path).st_ctime_ns == before:  # until the clock of the file system goes on
            place.put("a.jpg", 2)

    place.after_reading = replace
    assert place.step() == []
    place.after_reading = lambda path: None
    assert [place.step(), place.step()] == [[], ["a.jpg 2.0"]]


def test_what_is_taken_away_before_it_is_read_is_counted_and_after_that_has_its_row(place) -> None:
    place.put("a.jpg", 1)
    place.put("b.jpg", 2)
    place.step()
    place.before_reading = lambda path: path.endswith("a.jpg") and os.unlink(path)
    place.after_reading = os.unlink
    assert place.step() == ["b.jpg 2.0"]
    assert place.watcher.gone == 1
    place.before_reading = place.after_reading = lambda path: None
    place.put("a.jpg", 1)
    assert [place.step(), place.step()] == [[], ["a.jpg 1.0"]]


def test_links_to_nothing_and_out_of_the_folder_are_rows_once(place, tmp_path: Path) -> None:
    (place.folder / "lost.jpg").symlink_to("target.jpg")
    (place.folder / "out.jpg").symlink_to(tmp_path / "elsewhere.jpg")
    (place.folder / "round").symlink_to(place.folder)
    assert place.step() == []
    assert sorted(place.step()) == [
        "lost.jpg FileNotFoundError",
        "out.jpg a link that leads out of the folder, which is not followed",
        "round/ a symbolic link back to one of its own parent folders",
    ]
    place.restart()
    assert [place.step(), place.step()] == [[], []]
    place.put("target.jpg", 7)
    assert place.step() == []
    assert sorted(place.step()) == ["lost.jpg 7.0", "target.jpg 7.0"]


def test_a_folder_that_goes_is_trouble_and_comes_back(place) -> None:
    place.put("a.jpg", 1)
    place.step(), place.step()
    away = place.folder.with_name("away")
    place.folder.rename(away)
    assert place.step() == []
    assert place.watcher.trouble == "unreadable folder: No such file or directory"
    assert len(place.rows()) == 1
    away.rename(place.folder)
    assert place.step() == []
    assert place.watcher.trouble == ""


def test_once_looks_twice_and_not_at_all_again_if_there_is_nothing_new(place, monkeypatch) -> None:
    slept: list[float] = []
    clocks = SimpleNamespace(sleep=slept.append, perf_counter=lambda: 0.0)
    monkeypatch.setattr(watching, "time", clocks)
    assert list(rounds(place.watcher, 3.5, once=True)) == []
    place.put("a.jpg", 1)
    found = list(rounds(place.watcher, 3.5, once=True))
    assert [[one.item.path for one in arrivals] for arrivals in found] == [[str(place.folder / "a.jpg")]]
    assert slept == [3.5]


def test_a_look_that_takes_long_is_followed_by_a_longer_pause(place, monkeypatch) -> None:
    slept: list[float] = []
    clock = iter(range(0, 1000, 3))
    clocks = SimpleNamespace(sleep=slept.append, perf_counter=lambda: next(clock))
    monkeypatch.setattr(watching, "time", clocks)
    place.put("a.jpg", 1)
    assert len(list(rounds(place.watcher, 2.0, once=True))) == 1
    assert slept == [12]
