"""``lsn watch``: the rows of ``lsn score`` for what arrives, and none twice or lost, whatever ends it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from cli_runner import exit_code
from PIL import Image
from sklearn.datasets import load_sample_image

from lsncli.detection import watch as watching
from lsncli.locks import locked

VERSION = ["size", "mtime_ns", "ctime_ns"]
DRIVER = Path(__file__).parent / "watch_kill_driver.py"


def crops(photo: str, folder: Path, numbers: range) -> None:
    pixels = load_sample_image(photo)
    folder.mkdir(parents=True, exist_ok=True)
    for i in numbers:
        left, top = 11 * i % 400, 7 * i % 250
        Image.fromarray(pixels[top : top + 120, left : left + 120]).save(folder / f"{photo[:2]}{i:02}.jpg")


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    """A workspace with a detector of two classes."""
    place = tmp_path_factory.mktemp("watch-command")
    crops("flower.jpg", place / "photos" / "flower", range(8))
    crops("china.jpg", place / "photos" / "temple", range(8))
    usual = ["--work", str(place / "work"), "--quiet", "--output", str(place / "out")]
    for words in (["extract", str(place / "photos"), "--model", "mini"], ["calibrate", "--method", "mcm"]):
        assert exit_code(*words, *usual) == 0
    return place / "work"


def near(row: dict) -> dict:
    """The row, equal to one whose numbers differ by what other batches may change."""
    return {k: pytest.approx(v, rel=1e-5) if isinstance(v, float) else v for k, v in row.items()}


@pytest.fixture
def watch(lsn, work, tmp_path):
    """``lsn watch inbox`` with rows in ``rows.jsonl``; the inbox holds four images and a broken one."""
    crops("flower.jpg", tmp_path / "inbox" / "b", range(20, 22))
    crops("china.jpg", tmp_path / "inbox", range(20, 22))
    (tmp_path / "inbox" / "broken.jpg").write_text("no image")
    usual = ("--work", work, "--device", "cpu", "--interval", "0.1", "--output", "rows.jsonl")
    return lambda *words: lsn("watch", "inbox", *usual, *words)


def sleeping(monkeypatch: pytest.MonkeyPatch, sleep: Callable[[float], object]) -> None:
    """Between two looks ``sleep`` is called, and no look takes any time."""
    monkeypatch.setattr(watching, "time", SimpleNamespace(sleep=sleep, perf_counter=lambda: 0.0))


def rows(path: str = "rows.jsonl") -> list[dict]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def test_rows_are_those_of_score_and_the_version(watch, lsn, work) -> None:
    Path("inbox", "two\nlines\udcff.jpg").write_bytes(Path("inbox", "ch20.jpg").read_bytes())
    done = watch("--once")
    assert (done.code, done.out) == (0, "")
    scored = lsn(
        "score",
        Path("inbox").resolve(),
        "--work",
        work,
        "--format",
        "jsonl",
        "--device",
        "cpu",
        "--max-failure-rate",
        "1",
    )
    expected = {row["path"]: row for row in map(json.loads, scored.out.splitlines())}
    assert len(rows()) == len(expected) == 6
    for row in rows():
        assert list(row) == [*expected[row["path"]], *VERSION]
        found = {name: value for name, value in row.items() if name not in VERSION}
        assert found == near(expected[row["path"]])
    sizes = {row["path"]: row["size"] for row in rows()}
    assert sizes[os.path.abspath("inbox/broken.jpg")] == len("no image")
    assert "1 unreadable" in done.err


def test_a_second_run_scores_what_is_new_or_changed_alone_wherever_it_is_started(watch, lsn, work) -> None:
    assert watch("--once").code == 0
    assert len(rows()) == 5
    assert "0 images" in watch("--once").err
    crops("china.jpg", Path("inbox", "late"), range(30, 31))
    crops("flower.jpg", Path("inbox"), range(40, 41))
    os.replace("inbox/fl40.jpg", "inbox/broken.jpg")
    os.chdir("inbox")
    done = lsn("watch", ".", "--work", work, "--interval", "0.1", "--output", "../rows.jsonl", "--once")
    assert "2 images" in done.err
    os.chdir("..")
    assert [row["path"] for row in rows()[5:]] == [
        os.path.abspath(f"inbox/{name}") for name in ("late/ch30.jpg", "broken.jpg")
    ]
    assert rows()[-1]["error"] is None
    assert len(rows()) == 7


def test_rows_go_to_the_workspace_if_no_file_is_named(lsn, work, tmp_path) -> None:
    (tmp_path / "empty").mkdir()
    assert lsn("watch", "empty", "--once", "--work", work).code == 0
    assert (work / "results" / "watch.jsonl").read_bytes() == b""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_is_how_it_ends(watch, monkeypatch, how) -> None:
    looks = []

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 3:
            os.kill(os.getpid(), how)

    sleeping(monkeypatch, sleep)
    before = signal.getsignal(signal.SIGTERM)
    done = watch()
    assert done.code == 0
    assert looks == [0.1] * 3
    assert len(rows()) == 5
    assert "5 images" in done.err.splitlines()[-2] + done.err.splitlines()[-1]
    assert signal.getsignal(signal.SIGTERM) == before


def test_once_that_is_interrupted_has_not_done_its_work(watch, monkeypatch) -> None:
    sleeping(monkeypatch, lambda seconds: os.kill(os.getpid(), signal.SIGINT))
    assert watch("--once").code == 130
    assert rows() == []


def test_refusals_come_before_any_image_is_read(watch, lsn, work) -> None:
    assert lsn("watch", "nowhere", "--work", work).code == 2
    assert lsn("watch", "inbox", "--work", "nowhere").code == 1
    assert not Path("nowhere").exists()
    with locked(Path("rows.jsonl")):
        done = watch("--once")
    assert done.code == 1
    assert "Name another --output" in done.err
    Path("rows.jsonl").write_text("mine")
    assert watch("--once").code == 1
    assert Path("rows.jsonl").read_text() == "mine"


def test_the_folder_that_goes_is_told_and_waited_for_but_not_once(watch, monkeypatch) -> None:
    looks = []

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 1:
            os.rename("inbox", "away")
        elif len(looks) == 2:
            os.rename("away", "inbox")
        elif len(looks) == 4:
            raise KeyboardInterrupt

    sleeping(monkeypatch, sleep)
    done = watch()
    assert done.code == 0
    assert "Trying again at every look" in done.err
    assert "can be read again" in done.err
    assert len(rows()) == 5
    looks.clear()
    Path("inbox", "new.jpg").touch()
    done = watch("--once")
    assert done.code == 1
    assert "cannot be read: unreadable folder" in done.err


def test_names_move_no_cursor_on_the_terminal(watch) -> None:
    Path("inbox", "\x1b[2Jred\n.jpg").write_text("no image")
    assert "\x1b" not in watch("--once").err


def test_a_process_that_is_killed_at_any_moment_loses_and_repeats_nothing(work, tmp_path, lsn) -> None:
    if not hasattr(os, "fork"):
        pytest.skip("needs os.fork")
    crops("flower.jpg", tmp_path / "inbox", range(20))
    crops("china.jpg", tmp_path / "arriving", range(8))
    (tmp_path / "inbox" / "broken.jpg").write_bytes(b"")
    done = subprocess.run(
        [
            sys.executable,
            str(DRIVER),
            *map(str, (tmp_path / "inbox", tmp_path / "arriving", work, tmp_path / "rows.jsonl")),
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["kills"] == 4
    assert report["progress"] == 1 + 4  # each of these kills came after rows of its own
    paths = [row["path"] for row in rows()]
    assert sorted(paths) == sorted(str(path) for path in (tmp_path / "inbox").iterdir())
    options = ("--format", "jsonl", "--output", "scored", "--device", "cpu")
    assert lsn("score", tmp_path / "inbox", "--work", work, *options).code == 0
    scored = {row["path"]: row for row in rows("scored")}
    for row in rows():
        wanted = scored[row["path"]]
        # An image at gamma itself may fall on either side of it in a batch of another size.
        left_out = {*VERSION, "is_ood"} if at_gamma(wanted) else {*VERSION}
        found = {name: row[name] for name in row if name not in left_out}
        assert found == {name: value for name, value in near(wanted).items() if name in found}


def at_gamma(row: dict) -> bool:
    return row["score"] is not None and row["score"] == pytest.approx(row["threshold"], abs=1e-6)


def test_a_file_that_is_written_slowly_is_read_when_it_is_whole(watch, monkeypatch, tmp_path) -> None:
    crops("china.jpg", tmp_path, range(1))
    left = (tmp_path / "ch00.jpg").read_bytes()
    step = len(left) // 20 + 1

    def sleep(seconds: float) -> None:
        nonlocal left
        if not left and len(rows()) == 6:
            raise KeyboardInterrupt
        with Path("inbox", "slow.jpg").open("ab") as file:
            file.write(left[:step])
        left = left[step:]

    sleeping(monkeypatch, sleep)
    assert watch().code == 0
    (row,) = [row for row in rows() if row["path"].endswith("slow.jpg")]
    assert row["error"] is None
