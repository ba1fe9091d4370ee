"""The engine ``ray`` without Ray: what it asks of a cluster, what an actor does, what it refuses."""

import sys
from collections import deque
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from fake_backbone import FakeBackbone, make_images

from lsncli import console
from lsncli.errors import LsnError, Unavailable, UsageError
from lsncli.extraction.encoder import Encoder
from lsncli.extraction.engines import ENGINES, WorkerGroup, engine
from lsncli.extraction.engines import ray as engine_ray
from lsncli.extraction.engines import ray_actors as actor
from lsncli.extraction.engines.local import Broken
from lsncli.extraction.engines.ray import Actors, Share, group_from, sentence, share_of
from lsncli.extraction.engines.ray_actors import Lost, Maker, News, Post, Ready, check_sight, hand_out
from lsncli.extraction.extract import extract
from lsncli.extraction.part_job import PartJob, PartResult
from lsncli.images.listing import list_images

BOX = {"CPU": 16.0}
GPUS = {"CPU": 64.0, "GPU": 8.0}


@pytest.mark.parametrize(
    ("nodes", "device", "processes", "threads", "expected"),
    [
        ([BOX], "auto", 0, 4, Share(4, 4, 0)),
        ([BOX, BOX], "cpu", 0, 16, Share(2, 16, 0)),
        ([BOX], "auto", 3, 16, Share(3, 5, 0)),  # threads shared among those that were asked for
        ([{"CPU": 2.0}], "auto", 4, 2, Share(4, 1, 0)),  # more than there is room for: the rest waits
        ([{"CPU": 2.0}], "auto", 0, 8, Share(1, 2, 0)),
        ([{"memory": 5.0}, BOX], "auto", 0, 16, Share(1, 16, 0)),
        ([GPUS], "auto", 0, 64, Share(8, 8, 1)),
        ([BOX, GPUS, {"CPU": 4.0, "GPU": 1.0}], "auto", 0, 64, Share(9, 4, 1)),  # what fits on each of them
        ([GPUS], "cuda", 2, 4, Share(2, 4, 1)),
        ([GPUS], "cpu", 0, 16, Share(4, 16, 0)),
        ([BOX], "cuda", 2, 4, Share(2, 4, 1)),  # a cluster that starts machines when they are asked for
    ],
)
def test_what_actors_ask_for_fits_on_the_machines(
    nodes: list[dict[str, float]], device: str, processes: int, threads: int, expected: Share
) -> None:
    assert share_of(nodes, device, processes, threads) == expected


def test_a_gpu_where_there_is_none_is_unavailable() -> None:
    with pytest.raises(Unavailable, match="no GPU"):
        share_of([BOX], "cuda", 0, 4)


def test_a_gpu_by_number_is_refused_because_ray_gives_them() -> None:
    with pytest.raises(UsageError, match="--device cuda:1"):
        group_from(0, "cuda:1", "")


def test_without_ray_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(Unavailable, match="needs Ray") as caught:
        group_from(0, "cpu", "head:6379")
    assert "pip install 'lsncli[ray]'" in caught.value.hint
    assert caught.value.exit_code == 5


def test_an_address_where_nobody_listens_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lsncli.extraction.engines.ray.imported", lambda address: None)
    with pytest.raises(Unavailable, match=r"There is no Ray cluster at '127.0.0.1:1'"):
        group_from(0, "cpu", "127.0.0.1:1")
    with pytest.raises(Unavailable, match=r"There is no Ray cluster at 'ray://127.0.0.1:1'"):
        group_from(0, "cpu", "ray://127.0.0.1:1")


def test_of_what_ray_says_the_end_is_kept() -> None:
    told = "The actor died because of an error in its creation task.\n  File x\nModuleNotFoundError: no lsn\n"
    assert sentence(RuntimeError(told)) == "ModuleNotFoundError: no lsn."
    assert sentence(RuntimeError()) == "RuntimeError."
    coloured = "\x1b[36mray::Maker.make()\x1b[39m (pid=7): \x1b[1mout of memory\x1b[0m\n"
    assert sentence(RuntimeError(coloured)) == "ray::Maker.make() (pid=7): out of memory."


class InHere:
    """Actors that work in this process when they are asked for news. Those at the parts ``fatal`` are lost
    once, before they begin it."""

    def __init__(self, job: PartJob, fatal: tuple[int, ...] = ()) -> None:
        self.post = Post.of(job, "cpu")
        self.fatal = list(fatal)
        self.makers: list[Maker] = []
        self.asked: deque[tuple[int, int, float]] = deque()
        self.waits: list[float] = []

    def hire(self) -> None:
        self.makers.append(Maker(self.post))
        self.asked.append((len(self.makers) - 1, -1, 0.0))

    def give(self, worker: int, index: int, wait: float) -> None:
        self.asked.append((worker, index, wait))

    def dismiss(self, worker: int) -> None:
        self.asked = deque(one for one in self.asked if one[0] != worker)

    def news(self) -> tuple[int, News]:
        worker, index, wait = self.asked.popleft()
        if index < 0:
            return worker, self.makers[worker].begin() or Ready()
        if index in self.fatal:
            self.fatal.remove(index)
            return worker, Lost("killed")
        self.waits.append(wait)
        return worker, self.makers[worker].make(index, wait)


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """50 images, three of them broken, and a model that actors can load."""

    def fake_encoder(job: PartJob, device: str, progress: console.ProgressCallback) -> Encoder:
        return Encoder(FakeBackbone(), job.plan.batch_size, job.workers, progress)

    monkeypatch.setattr(actor, "encoder_for", fake_encoder)
    monkeypatch.setattr(actor, "HEAR_SECONDS", 0.0)
    return make_images(tmp_path / "photos", 50, broken=(3, 17, 40))


def extracted(photos: Path, store: Path, group: WorkerGroup | None = None) -> tuple[bytes, list[int]]:
    """The bytes of the store and what the progress bar heard."""
    ticks: list[int] = []
    extract(
        list_images([photos]),
        source="photos",
        store=store,
        split="train",
        backbone=FakeBackbone(),
        batch_size=4,
        part_rows=12,
        max_failure_rate=1.0,
        group=group,
        progress=lambda step, note="": ticks.append(step),
    )
    return store.read_bytes(), ticks


def test_actors_make_the_bytes_that_one_process_makes_also_when_some_are_lost(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[InHere] = []

    def work(job: PartJob, group: WorkerGroup, progress: console.ProgressCallback) -> list[PartResult]:
        seen.append(InHere(job, fatal=(0, 3)))
        return hand_out(job.plan.parts, seen[0], group.processes, progress)

    monkeypatch.setattr("lsncli.extraction.engines.ray.work", work)
    alone, _ = extracted(photos, tmp_path / "alone.h5")
    rayed, ticks = extracted(photos, tmp_path / "ray.h5", WorkerGroup("ray", 2, "cpu"))
    assert rayed == alone
    assert sum(ticks) == 50
    assert len(seen[0].makers) == 4
    assert sorted(seen[0].waits) == [0.0, 0.0, 0.0, 120.0, 120.0]


@pytest.fixture
def job(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PartJob:
    """A job that is planned, of which no part is made."""
    jobs: list[PartJob] = []

    def work(job: PartJob, group: WorkerGroup, progress: console.ProgressCallback) -> list[PartResult]:
        jobs.append(job)
        raise LsnError("enough")

    monkeypatch.setattr("lsncli.extraction.engines.ray.work", work)
    with pytest.raises(LsnError, match="enough"):
        extracted(photos, tmp_path / "features.h5", WorkerGroup("ray", 2, "cpu"))
    return jobs[0]


def test_an_actor_says_how_far_it_is(job: PartJob) -> None:
    maker = Maker(Post.of(job, "cpu"))
    assert maker.begin() is None
    assert maker.progress() == (-1, 0)
    made = maker.make(2, 0.0)
    assert isinstance(made, PartResult)
    assert (made.index, made.encoded) == (2, 12)
    assert maker.progress() == (2, 12)


def test_an_actor_that_is_told_to_stop_commits_what_it_has(job: PartJob) -> None:
    maker = Maker(Post.of(job, "cpu"))
    maker.begin()
    told = maker._count_images

    def progress(step: int, note: str = "") -> None:
        if step:
            maker.stop()
        told(step)

    assert maker._encoder is not None
    maker._encoder.progress = progress
    assert isinstance(maker.make(0, 0.0), Broken)
    assert [path.name for path in job.folder.glob("rows-*")] == ["rows-000000000000-000000000004.h5"]


def test_errors_of_an_actor_are_values_that_keep_their_kind_and_hint(
    job: PartJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> Encoder:
        raise Unavailable("No weights here.", "Bring them.")

    monkeypatch.setattr(actor, "encoder_for", fails)
    assert Maker(Post.of(job, "cpu")).begin() == Broken(Unavailable, "No weights here.", "Bring them.")
    early = Maker(Post.of(job, "cpu")).make(0, 0.0)
    assert isinstance(early, Broken)
    assert "before it had a model" in early.message


def test_a_machine_that_does_not_see_the_same_files_makes_nothing(
    job: PartJob, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    post = Post.of(job, "cpu")
    assert [Path(path).name for path in post.seen] == ["plan.json", "0000.png", "0049.png"]
    check_sight(post)
    Path(post.seen[2]).rename(photos / "elsewhere")
    with pytest.raises(LsnError, match=r"does not see .*0049\.png"):
        check_sight(post)
    with pytest.raises(LsnError, match=r"does not see .*missing"):
        check_sight(replace(post, folder=tmp_path / "missing", seen=()))
    # What nobody sees is a failure of its own and no reason to refuse a machine.
    assert len(Post.of(job, "cpu").seen) == 2


def test_a_machine_with_another_version_makes_nothing(job: PartJob) -> None:
    with pytest.raises(LsnError, match=r"has lsn .*, the one that plans has 0\.0\.9"):
        check_sight(replace(Post.of(job, "cpu"), version="0.0.9"))


class FakeRay:
    """Ray as ``Actors`` uses it; it starts nothing, and its one machine lives for so many looks."""

    def __init__(self, lives: int) -> None:
        self.lives, self.waits = lives, 0
        self.exceptions = SimpleNamespace(RayError=RuntimeError)
        self.actor = SimpleNamespace(begin=SimpleNamespace(remote=object))

    def remote(self, kind: object) -> "FakeRay":
        return self

    def options(self, **_: object) -> object:
        return SimpleNamespace(remote=lambda post: self.actor)

    def wait(self, asked: list[object], timeout: float) -> tuple[list[object], list[object]]:
        self.waits += 1
        return [], asked

    def nodes(self) -> list[dict[str, object]]:
        return [{"Alive": self.waits <= self.lives}, {"Alive": False}]


def test_a_cluster_without_a_machine_that_is_alive_is_said_soon(job: PartJob) -> None:
    ray = FakeRay(lives=3)
    actors = Actors(ray, job, Share(1, 1, 0), "cpu")
    actors.hire()
    with pytest.raises(LsnError, match="no machine of its cluster is alive any more") as caught:
        actors.news()
    assert "Run the same command again" in caught.value.hint
    assert ray.waits == 4
    assert engine_ray.LOOK_SECONDS <= 10


def test_a_cluster_that_starts_nothing_is_waited_for_a_quarter_of_an_hour(job: PartJob) -> None:
    ray = FakeRay(lives=10**9)
    actors = Actors(ray, job, Share(1, 2, 0), "cpu")
    actors.hire()
    with pytest.raises(LsnError, match="started no process in 15 minutes; each asks for 2 CPUs"):
        actors.news()
    assert ray.waits == engine_ray.START_SECONDS / engine_ray.LOOK_SECONDS


def test_it_is_an_engine() -> None:
    assert ENGINES["ray"].work == "lsncli.extraction.engines.ray:work"
    assert callable(engine(WorkerGroup("ray")))
