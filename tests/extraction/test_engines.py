"""Parts made by whoever: the store is that of one process, to the byte; what is lost is made again."""

import hashlib
import json
import os
import sys
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import get_args

import pytest
from fake_backbone import FakeBackbone, make_images

from lsncli import console, registry
from lsncli.cli.engines import EngineName, group_for
from lsncli.console import silent
from lsncli.errors import LsnError, UsageError
from lsncli.extraction import engines
from lsncli.extraction import extract as extraction
from lsncli.extraction.encoder import Encoder
from lsncli.extraction.engines import WorkerGroup, local, torchrun
from lsncli.extraction.extract import Extraction, extract
from lsncli.extraction.part_job import (
    PartJob,
    PartResult,
    manifest_path,
    read_manifest,
    work_part,
    write_manifest,
)
from lsncli.extraction.runner import RunResult, join, launch_of, make_share
from lsncli.images.item import ImageItem
from lsncli.images.listing import list_images
from lsncli.images.parquet import ListedTable
from lsncli.images.remote import Remote
from lsncli.locks import locked
from lsncli.store.reader import read_split
from lsncli.store.staging import ExtractionPlan, parts_folder, read_plan

LAUNCH = "this one"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """22 images, and a model that every process 'loads' at once."""
    make_images(tmp_path / "images", 22, broken=(5,))

    def load(job: PartJob, device: str, progress: Callable[[int], None]) -> Encoder:
        return Encoder(FakeBackbone(), job.plan.batch_size, job.workers, progress)

    monkeypatch.setattr(torchrun, "encoder_for", load)
    monkeypatch.setattr(torchrun, "POLL_SECONDS", 0.01)
    return tmp_path


def run(root: Path, name: str, group: WorkerGroup | None = None, **options: object) -> Extraction:
    settings = {"batch_size": 4, "workers": 2, "part_rows": 4, "max_failure_rate": 1.0}
    settings |= {"backbone": FakeBackbone()}
    return extract(
        list_images([root / "images"]),
        source="images",
        store=root / name,
        split="train",
        group=group,
        record=root / f"{name}.json",
        **{**settings, **options},
    )


def first(root: Path, name: str, processes: int = 2, **options: object) -> Extraction:
    """What process 0 does."""
    with torchrun.planning(root / name, "train"):
        return run(root, name, WorkerGroup("torchrun", processes, launch=LAUNCH), **options)


def other(root: Path, name: str, rank: int = 1, processes: int = 2, **options: object) -> RunResult:
    group = WorkerGroup("torchrun", processes, rank=rank, launch=LAUNCH)
    return join(group, store=root / name, split="train", workers=2, record=root / f"{name}.json", **options)


def test_two_processes_one_after_the_other_make_the_store_of_one(root: Path) -> None:
    run(root, "one.h5")
    made = first(root, "f.h5")
    assert (made.finished, made.rows + len(made.failures)) == (False, 12)
    assert not (root / "f.h5").exists()
    late = other(root, "f.h5")
    assert (late.finished, late.encoded) == (True, 10)
    assert (root / "f.h5").read_bytes() == (root / "one.h5").read_bytes()
    assert launch_of(root / "f.h5.json") == LAUNCH
    assert not (root / "f.h5.parts").exists()
    assert other(root, "f.h5").encoded == 0  # one that comes when all is over


def test_a_process_of_several_has_parts_and_an_unfinished_extraction_keeps_its_own(root: Path) -> None:
    said: list[str] = []
    run(root, "one.h5", part_rows=0)
    assert record(root, "one.h5")["parts"] == 1
    first(root, "f.h5", 3, part_rows=0)
    folder = parts_folder(root / "f.h5", "train")
    assert read_plan(folder).plan.parts == 3
    done = run(root, "f.h5", part_rows=0, remark=said.append)  # one process, three parts
    assert (done.resumed, done.finished, record(root, "f.h5")["parts"]) == (8, True, 3)
    assert (root / "f.h5").read_bytes() == (root / "one.h5").read_bytes()
    (root / "f.h5").unlink()
    with pytest.raises(KeyboardInterrupt):
        run(root, "f.h5", backbone=Stops(2), commit_seconds=0.0, part_rows=0)
    assert not [text for text in said if "processes have work" in text]
    again = first(root, "f.h5", 3, part_rows=0, remark=said.append)  # three processes, one part
    assert (again.resumed, again.finished) == (8, True)
    assert said[-1].startswith(
        "The unfinished extraction has 1 part, so no more of the 3 processes have work"
    )
    assert (root / "f.h5").read_bytes() == (root / "one.h5").read_bytes()
    (root / "f.h5").unlink()
    with pytest.raises(KeyboardInterrupt):
        run(root, "f.h5", backbone=Stops(2), commit_seconds=0.0, part_rows=0)
    first(root, "f.h5", 3, part_rows=0, overwrite=True)
    assert read_plan(folder).plan.parts == 3


def record(root: Path, name: str) -> dict[str, object]:
    return json.loads((root / f"{name}.json").read_text())


@pytest.mark.parametrize(
    ("rank", "beside", "parts", "share"), [(0, 8, 20, 2), (0, 8, 3, 5), (9, 8, 10, 8), (8, 8, 9, 16)]
)
def test_decoding_threads_are_divided_among_processes_with_parts(
    root: Path, monkeypatch: pytest.MonkeyPatch, rank: int, beside: int, parts: int, share: int
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    found: list[int] = []

    class Loaded(Exception):
        pass

    def load(job: PartJob, device: str, progress: object) -> Encoder:
        found.append(job.workers)
        raise Loaded

    monkeypatch.setattr(torchrun, "encoder_for", load)
    plan = ExtractionPlan("", "", items=parts * 4, dim=4, batch_size=4, part_rows=4)
    for given in (0, 7):
        job = PartJob(root / "f.h5", "train", plan, FakeBackbone().fingerprint, workers=given)
        with pytest.raises(Loaded):
            torchrun.work(job, WorkerGroup("torchrun", 16, rank=rank, beside=beside), silent)
    assert found == [share, 7]


def test_the_local_engine_starts_no_process_without_a_part(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    started: list[tuple[str, int, int]] = []

    def start(job: PartJob, device: str, processes: int) -> None:
        started.append((device, job.workers, processes))
        if len(started) == 3:
            raise LsnError("enough")

    monkeypatch.setattr(local, "_start", start)
    plan = ExtractionPlan("", "", items=12, dim=4, batch_size=4, part_rows=4)
    job = PartJob(root / "f.h5", "train", plan, FakeBackbone().fingerprint, workers=0)
    with pytest.raises(LsnError, match="enough"):
        local.work(job, WorkerGroup("local", 8, "cpu", beside=8), silent)
    assert started == [("cpu", 5, 3)] * 3


def test_a_process_that_read_the_plan_and_then_was_overtaken_ends_well(root: Path) -> None:
    first(root, "f.h5")
    plan = read_plan(parts_folder(root / "f.h5", "train")).plan
    job = PartJob(root / "f.h5", "train", plan, FakeBackbone().fingerprint, workers=2)
    group = WorkerGroup("torchrun", 2, rank=1, launch=LAUNCH)
    assert other(root, "f.h5").finished
    ignore = {"progress": silent, "remark": lambda text: None}
    made = make_share(group, job, merge=True, record=root / "f.h5.json", **ignore)
    assert (made.encoded, made.finished) == (0, False)
    assert not (root / "f.h5.parts").exists()


def test_three_processes_at_once_make_the_store_of_one(root: Path) -> None:
    run(root, "one.h5")
    made: dict[int, RunResult | Extraction] = {}

    def process(rank: int) -> None:
        made[rank] = other(root, "f.h5", rank, 3) if rank else first(root, "f.h5", 3)

    threads = [threading.Thread(target=process, args=(rank,)) for rank in (2, 1, 0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == [0, 1, 2]
    assert [one.finished for one in made.values()].count(True) >= 1
    assert (root / "f.h5").read_bytes() == (root / "one.h5").read_bytes()
    assert not (root / "f.h5.parts").exists()


def test_one_process_goes_on_where_several_stopped_and_the_other_way_round(root: Path) -> None:
    run(root, "one.h5")
    first(root, "f.h5")
    done = run(root, "f.h5")
    assert (done.resumed, done.finished) == (12, True)
    assert (root / "f.h5").read_bytes() == (root / "one.h5").read_bytes()
    (root / "f.h5").unlink()
    (root / "f.h5.json").unlink()
    with pytest.raises(KeyboardInterrupt):
        run(root, "f.h5", backbone=Stops(2), commit_seconds=0.0)
    assert first(root, "f.h5").resumed == 4  # part 0; part 1 is not its own
    assert other(root, "f.h5").found == 4
    assert (root / "f.h5").read_bytes() == (root / "one.h5").read_bytes()


class Stops(FakeBackbone):
    """Is interrupted after some batches."""

    def __init__(self, batches: int) -> None:
        super().__init__()
        self.left = batches

    def encode(self, pixels):  # type: ignore[no-untyped-def]
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
        return super().encode(pixels)


def test_parts_that_are_lost_are_made_again_by_the_same_command(root: Path) -> None:
    run(root, "one.h5")
    first(root, "f.h5", merge=False)
    assert not other(root, "f.h5", merge=False).finished
    pieces = sorted(parts_folder(root / "f.h5", "train").glob("rows-*.h5"))
    assert len(pieces) == 6
    pieces[0].unlink()
    pieces[2].write_bytes(pieces[4].read_bytes())
    pieces[3].write_bytes(b"torn")
    told: list[str] = []
    assert first(root, "f.h5", remark=told.append).resumed == 4
    late = other(root, "f.h5", remark=told.append)
    assert [(pieces[2].name in text, pieces[3].name in text) for text in told] == [
        (True, False),
        (False, True),
    ]
    assert all(text.startswith("Warning: ") and text.endswith("encoded again.") for text in told)
    assert (late.found, late.encoded, late.finished) == (6, 4, True)
    assert (root / "f.h5").read_bytes() == (root / "one.h5").read_bytes()


def test_a_finished_split_is_left_alone_by_all(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(root, "f.h5")
    before = (root / "f.h5").read_bytes()
    assert first(root, "f.h5").already
    assert other(root, "f.h5").finished
    assert (root / "f.h5").read_bytes() == before
    monkeypatch.setattr(torchrun, "PLANNER_WAIT", 0.05)
    with pytest.raises(LsnError, match="found no plan"):  # with --overwrite there is something to wait for
        other(root, "f.h5", overwrite=True)


def test_a_process_waits_for_the_plan_of_its_own_launch(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first(root, "f.h5")
    monkeypatch.setattr(torchrun, "PLANNER_WAIT", 0.05)
    group = WorkerGroup("torchrun", 2, rank=1, launch="a later one")
    with pytest.raises(LsnError, match="process 0 is not making one"):
        join(group, store=root / "f.h5", split="train", record=root / "f.h5.json")


def test_a_first_process_that_is_started_again_goes_on_beside_the_others(root: Path) -> None:
    run(root, "one.h5")
    first(root, "f.h5", overwrite=True)
    folder = parts_folder(root / "f.h5", "train")
    (folder / "split.json").write_text("torn")
    manifest_path(folder, 1).write_text("torn")
    again = WorkerGroup("torchrun", 2, launch=LAUNCH, again=True)
    with locked(folder, shared=True):  # the second process read the plan first and is at work
        made = run(root, "f.h5", again, overwrite=True)
    assert (made.resumed, made.finished) == (12, False)
    assert other(root, "f.h5", overwrite=True).finished
    assert (root / "f.h5").read_bytes() == (root / "one.h5").read_bytes()
    assert not (root / "f.h5.parts").exists()
    for options in ({}, {"overwrite": True}):  # it is lost once more, when all is done
        made = run(root, "f.h5", again, **options)
        assert (made.resumed, made.finished) == (22, True)
        assert not (root / "f.h5.parts").exists()


@pytest.mark.parametrize("group", [None, WorkerGroup("torchrun", 2, launch=LAUNCH, again=True)])
def test_a_split_that_others_finish_meanwhile_is_not_made_again(
    root: Path, monkeypatch: pytest.MonkeyPatch, group: WorkerGroup | None
) -> None:
    run(root, "f.h5")
    monkeypatch.setattr(
        extraction, "_finished_split", lambda *_: None
    )  # it read the store before they finished
    backbone = FakeBackbone()
    done = run(root, "f.h5", group, backbone=backbone)
    assert (done.resumed, done.rows, done.finished, backbone.encoded) == (22, 21, True, 0)
    assert not (root / "f.h5.parts").exists()


def test_a_launch_of_the_same_name_by_hand_starts_again_with_overwrite(root: Path) -> None:
    first(root, "f.h5")
    other(root, "f.h5")
    joined: list[RunResult] = []
    late = threading.Thread(target=lambda: joined.append(other(root, "f.h5", overwrite=True)))
    late.start()
    first(root, "f.h5", overwrite=True)
    late.join()
    assert (joined[0].encoded, joined[0].found) == (10, 0)
    assert not (root / "f.h5.parts").exists()


def test_without_merge_the_parts_stay(root: Path) -> None:
    done = run(root, "f.h5", merge=False)
    assert (done.finished, done.rows, len(done.failures)) == (False, 21, 1)
    assert not (root / "f.h5").exists()
    assert run(root, "f.h5").resumed == 22


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, "no RANK and WORLD_SIZE"),
        ({"RANK": "0"}, "no RANK and WORLD_SIZE"),
        ({"RANK": "a", "WORLD_SIZE": "2"}, "whole numbers"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "expected RANK below WORLD_SIZE"),
    ],
)
def test_an_environment_of_nobody_is_a_usage_error(environment: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        torchrun.group_from(environment, "cpu", "")


def test_the_environment_says_who_a_process_is(monkeypatch: pytest.MonkeyPatch) -> None:
    four = [f"cuda:{index}" for index in range(4)]
    monkeypatch.setattr(torchrun, "gpus", lambda device: four if device == "auto" else [])
    given = {"RANK": "9", "WORLD_SIZE": "16", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "8"}
    group = torchrun.group_from(given, "auto", "arguments")
    assert (group.rank, group.processes, group.beside, group.device) == (9, 16, 8, "cuda:1")
    slurm = {"SLURM_PROCID": "5", "SLURM_NTASKS": "8", "SLURM_LOCALID": "6", "SLURM_NTASKS_PER_NODE": "2"}
    group = torchrun.group_from(slurm, "cpu", "arguments")
    assert (group.rank, group.processes, group.beside, group.device) == (5, 8, 2, "cpu")
    same = torchrun.group_from({**slurm, "SLURM_PROCID": "1"}, "cpu", "arguments")
    assert same.launch == group.launch
    for change in ({"SLURM_JOB_ID": "7"}, {"MASTER_PORT": "7"}):
        assert torchrun.group_from({**slurm, **change}, "cpu", "arguments").launch != group.launch
    assert torchrun.group_from(slurm, "cpu", "other arguments").launch != group.launch


@pytest.mark.parametrize("name", ["TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT"])
def test_a_restart_is_known_and_is_of_the_same_launch(name: str) -> None:
    """Hosts count their restarts apart: a name of the launch that had the count would part its processes."""
    given = {"RANK": "0", "WORLD_SIZE": "2"}
    began = torchrun.group_from({**given, name: "0"}, "cpu", "")
    again = torchrun.group_from({**given, name: "2"}, "cpu", "")
    assert (began.again, again.again) == (False, True)
    assert began.launch == again.launch


@pytest.mark.parametrize("name", engines.ENGINES)
def test_every_engine_loads_and_is_an_option_with_its_description(name: str) -> None:
    kind = engines.ENGINES[name]
    for reference in (kind.work, kind.group):
        assert reference.startswith(f"lsncli.extraction.engines.{name}:")
        assert callable(registry.load(reference))
    assert f"{name}: {kind.about}" in (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert get_args(EngineName) == tuple(engines.ENGINES)


def test_an_engine_that_is_added_is_chosen_by_its_row(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It makes the parts in this process, the last first; and its group is what its own function says."""
    made = []

    def work(job: PartJob, group: WorkerGroup, progress: console.ProgressCallback) -> list[PartResult]:
        encoder = Encoder(FakeBackbone(), job.plan.batch_size, 1, progress)
        for index in reversed(range(job.plan.parts)):
            made.append(work_part(job, index, encoder))
        return made[::-1]

    module = ModuleType("toy_engine")
    module.work, module.group_of = work, lambda asked: WorkerGroup("toy", asked.processes)
    monkeypatch.setitem(sys.modules, "toy_engine", module)
    row = engines.EngineKind("toy_engine:work", "toy_engine:group_of", "backwards.")
    monkeypatch.setitem(engines.ENGINES, "toy", row)
    group = group_for("toy", 3, "", "cpu", {})
    assert group == WorkerGroup("toy", 3)
    assert not group.together
    run(root, "toy.h5", group)
    run(root, "one.h5")
    assert len(made) > 1
    assert read_split(root / "toy.h5", "train").keys == read_split(root / "one.h5", "train").keys
    assert (root / "toy.h5").read_bytes() == (root / "one.h5").read_bytes()


def test_a_manifest_is_believed_only_as_it_was_written(root: Path) -> None:
    first(root, "f.h5")
    folder = parts_folder(root / "f.h5", "train")
    plan = read_plan(folder).plan
    assert read_manifest(folder, plan, 1) == list(list_images([root / "images"]).items[4:8])
    path = manifest_path(folder, 1)
    whole = path.read_bytes()
    for broken in (b"", whole[:-1], whole.replace(b"class", b"glass"), manifest_path(folder, 2).read_bytes()):
        path.write_bytes(broken)
        with pytest.raises(LsnError, match=r"items-000001\.json, images of a part"):
            read_manifest(folder, plan, 1)
    path.unlink()
    with pytest.raises(LsnError, match="cannot be read: No such file"):
        read_manifest(folder, plan, 1)


@pytest.mark.parametrize("signed", [True, False], ids=["with its checksum", "the first line as it was"])
def test_a_manifest_that_leads_elsewhere_is_written_anew_before_it_is_read(root: Path, signed: bool) -> None:
    run(root, "one.h5")
    first(root, "f.h5")
    folder = parts_folder(root / "f.h5", "train")
    plan = read_plan(folder).plan
    path = manifest_path(folder, 1)
    whole = path.read_bytes()
    line, _, content = whole.partition(b"\n")
    listed = json.loads(content)
    for item in listed["items"]:
        item[2] = str(root / "elsewhere.png")
    content = json.dumps(listed).encode()
    if signed:
        head = {"plan": plan.digest, "part": 1, "sha256": hashlib.sha256(content).hexdigest()}
        line = json.dumps(head).encode()
    path.write_bytes(line + b"\n" + content)
    first(root, "f.h5")
    assert path.read_bytes() == whole
    assert other(root, "f.h5").finished
    assert (root / "f.h5").read_bytes() == (root / "one.h5").read_bytes()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_in_the_place_of_a_manifest_is_not_waited_for(root: Path) -> None:
    first(root, "f.h5")
    folder = parts_folder(root / "f.h5", "train")
    path = manifest_path(folder, 1)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(LsnError, match="is not a regular file"):
        read_manifest(folder, read_plan(folder).plan, 1)
    first(root, "f.h5")
    assert other(root, "f.h5").finished


def test_a_manifest_keeps_what_images_lie_in_and_names_that_are_not_utf_8(tmp_path: Path) -> None:
    plan = ExtractionPlan("l", "f", items=3, dim=4, batch_size=4, part_rows=4)
    remote, table = Remote("https://host/a.tar", 99), ListedTable("t.parquet", 5, None, ("image", "bytes"))
    items = [
        ImageItem("a/1.jpg", "https://host/a.tar", 512, 7, remote, "1.jpg", label=0),
        ImageItem("a/\udcff.jpg", "t.parquet", 2, None, table, "row 2"),
        ImageItem("b.jpg", "/photos/b.jpg", None, 3, mtime=4, label=1),
    ]
    write_manifest(tmp_path, plan, items)
    assert read_manifest(tmp_path, plan, 0) == items


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
def test_a_manifest_with_credentials_is_for_its_owner_alone(tmp_path: Path) -> None:
    plan = ExtractionPlan("l", "f", items=1, dim=4, batch_size=4, part_rows=4)
    for url, others in (
        ("https://ann:pw@host/a", False),
        ("https://host/a?sig=x", False),
        ("https://host/a", True),
    ):
        items = [ImageItem("a", "https://***@host/a", 0, None, Remote(url), label=0)]
        folder = tmp_path / f"{others}"
        write_manifest(folder, plan, items)
        assert read_manifest(folder, plan, 0) == items
        assert bool(manifest_path(folder, 0).stat().st_mode & 0o077) == others


@pytest.mark.parametrize(
    "content",
    ["[]", '{"contents": [{"kind": "os.system"}], "items": []}', '{"contents": [], "items": [["a", "b"]]}'],
)
def test_a_manifest_of_anything_else_is_damaged(root: Path, content: str) -> None:
    first(root, "f.h5")
    folder = parts_folder(root / "f.h5", "train")
    plan = read_plan(folder).plan
    head = {"plan": plan.digest, "part": 1, "sha256": hashlib.sha256(content.encode()).hexdigest()}
    manifest_path(folder, 1).write_text(json.dumps(head) + "\n" + content)
    with pytest.raises(LsnError, match="images of a part, is damaged"):
        read_manifest(folder, plan, 1)


def test_a_compressed_tar_is_refused_by_several_processes(root: Path) -> None:

    with tarfile.open(root / "images.tar.gz", "w:gz") as tar:
        tar.add(root / "images", "images")
    with pytest.raises(LsnError, match="is compressed") as caught:
        extract(
            list_images([root / "images.tar.gz"]),
            source="images",
            store=root / "f.h5",
            split="train",
            backbone=FakeBackbone(),
            group=WorkerGroup("torchrun", 2, launch=LAUNCH),
        )
    assert "--processes 1" in caught.value.hint
