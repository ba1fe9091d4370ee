"""Studies learn what is shared once, in any number of processes, and go on where they stopped."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from mini_samples import write_store

from benchmarks.accuracy import studies
from benchmarks.accuracy.studies import Cell, Place, measure
from benchmarks.mini import heads
from lsncli.backbones import load_backbone
from lsncli.prompts.settings import preset

POSITIVE = preset("positive", epochs=1, length=2, batch_size=16)
NEGATIVE = preset("negative", epochs=1, length=2, batch_size=16, seed=99)
METHODS = (("mcm", {}), ("lsn", {"tau_bar": 1.0}))


def cells(seeds: int = 2) -> list[Cell]:
    return [
        cell
        for seed in range(seeds)
        for cell in (
            Cell("hand", Place("cifar10", 1, seed, 3), None, None, METHODS[:1]),
            Cell("full", Place("cifar10", 1, seed, 3), POSITIVE, NEGATIVE, METHODS),
            Cell("no", Place("cifar10", 1, seed, 3), None, NEGATIVE, METHODS),
        )
    ]


@pytest.fixture
def learned(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Which prompts were really learned: kind and seed."""
    seen: list[tuple[str, int]] = []
    real = heads.learn

    def spy(tower, rows, classes, settings, **options):
        seen.append((settings.kind, settings.seed))
        return real(tower, rows, classes, settings, **options)

    monkeypatch.setattr(heads, "learn", spy)
    return seen


def untimed(record: dict) -> dict:
    return {key: value for key, value in record.items() if not key.endswith("seconds")}


def test_every_cell_is_measured_in_order_and_shared_prompts_are_learned_once(bench: Path, learned) -> None:
    records = measure(cells(), bench, quiet=True)
    assert [(one["row"], one["seed"]) for one in records] == [
        (row, seed) for seed in (0, 1) for row in ("hand", "full", "no")
    ]
    assert sorted(learned) == [("negative", 0), ("negative", 1), ("positive", 0), ("positive", 1)]
    assert [one["method"] for one in records[1]["results"]] == ["mcm", "lsn,tau_bar=1.0"]
    assert (records[1]["classes"], records[1]["train_rows"]) == (6, 18)
    assert records[1]["negative"]["seed"] == 0


def test_records_are_what_evaluate_head_says(bench: Path) -> None:
    cell = cells(1)[1]
    (record,) = measure([cell], bench, quiet=True)
    task, tower = cell.where.task(bench), studies.store.text_tower(bench)
    head = heads.run(task, replace(POSITIVE, seed=0), replace(NEGATIVE, seed=0), tower)
    for stored, found in zip(record["results"], heads.evaluate_head(head, task, METHODS), strict=True):
        assert (stored["fpr95"], stored["auroc"]) == (found.fpr95, found.auroc)


def test_an_interrupted_study_goes_on_where_it_stopped(bench: Path, learned, monkeypatch) -> None:
    file = bench / "results.jsonl"
    whole = list(map(untimed, measure(cells(), bench, quiet=True)))
    for path in (bench / "learned").iterdir():
        path.unlink()
    learned.clear()
    real = studies._learn
    count = 0

    def stops(work, cache):
        nonlocal count
        count += 1
        if count == 3:
            raise KeyboardInterrupt
        return real(work, cache)

    monkeypatch.setattr(studies, "_learn", stops)
    with pytest.raises(KeyboardInterrupt):
        measure(cells(), bench, file=file, quiet=True)
    assert len(learned) == 2
    assert len(file.read_text().splitlines()) == 4  # both hand rows, and those of seed 0
    file.write_text(file.read_text() + '{"cut sho')
    monkeypatch.setattr(studies, "_learn", real)
    assert list(map(untimed, measure(cells(), bench, file=file, quiet=True))) == whole
    assert len(learned) == 4
    assert list(map(untimed, measure(cells(), bench, file=file, quiet=True))) == whole
    assert len(learned) == 4


def test_records_of_other_settings_scores_or_code_are_made_again(bench: Path, monkeypatch) -> None:
    file = bench / "results.jsonl"
    cell = cells(1)[2]

    def lines_after(cell: Cell) -> int:
        measure([cell], bench, file=file, quiet=True)
        return len(file.read_text().splitlines())

    assert lines_after(cell) == 1
    assert lines_after(cell) == 1
    assert lines_after(replace(cell, methods=METHODS[:1])) == 2
    assert lines_after(replace(cell, negative=replace(NEGATIVE, weight=0.0))) == 3
    assert lines_after(replace(cell, where=replace(cell.where, fold=0))) == 4
    monkeypatch.setattr(studies, "code_of", lambda *_: "another")
    assert lines_after(cell) == 5
    assert len({json.loads(line)["key"] for line in file.read_text().splitlines()}) == 5


def test_a_fold_is_measured_on_its_own_classes(bench: Path) -> None:
    (record,) = measure([replace(cells(1)[2], where=Place("cifar10", 1, 0, 3, fold=1))], bench, quiet=True)
    assert (record["classes"], record["train_rows"], record["fold"]) == (3, 9, 1)
    assert list(record["results"][0]["by_ood"]) == ["classes left out"]


def test_progress_says_what_was_learned_and_how_much_is_left(bench: Path, capsys) -> None:
    measure(cells(1), bench)
    said = capsys.readouterr().err
    assert "1/2: positive prompts for cifar10, split 1, seed 0" in said
    assert "about 0 min left" in said
    measure([*cells(2)], bench)
    said = capsys.readouterr().err
    assert "1/2: positive prompts for cifar10, split 1, seed 1" in said  # seed 0 is there already


@pytest.mark.slow
def test_another_process_learns_the_same(tmp_path_factory: pytest.TempPathFactory) -> None:
    folders = [tmp_path_factory.mktemp(name) for name in ("one", "two")]
    for folder in folders:  # other processes load the model by the store's fingerprint: it must be a real one
        write_store(folder, 4, load_backbone("mini", device="cpu").fingerprint)
    where = Place("imagenette", shots=2)
    chosen = [Cell("no", where, None, NEGATIVE, METHODS)]
    alone, together = (
        measure(chosen, folder, jobs=jobs, quiet=True) for folder, jobs in zip(folders, (1, 2), strict=True)
    )
    assert list(map(untimed, alone)) == list(map(untimed, together))
    assert len(list((folders[1] / "learned").iterdir())) == 1
