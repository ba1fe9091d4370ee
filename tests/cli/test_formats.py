"""Every command that has ``--format``, with every format: those of ``FORMATS``, and two that were added."""

import ast
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image
from selection_samples import known_best
from table_reader import WIDTHS, check_table
from training_samples import QUICK, features_of

import lsncli
from lsncli import registry
from lsncli.cli import options
from lsncli.report.formats import FORMATS, Column, Format, render
from lsncli.store.format import Split
from lsncli.store.reader import read_split
from lsncli.store.writer import write_split

PAGE = (Path(__file__).parents[2] / "docs" / "add-an-output-format.md").read_text(encoding="utf-8")
(BARS,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
TITLED = """

tables = []

def write_titled(rows, columns, file, title):
    rows = list(rows)
    tables.append((rows, columns))
    file.write(f"== {title}\\n")
    write(rows, columns, file, title)
"""
ADDED = {
    "bars": Format("bars:write", streams=True),
    "titled": Format("bars:write_titled", people=True, paragraph=lambda text: f"({text})\n"),
}
SUITE = """
title = "mine"
model = "mini"
[sets.birds]
title = "my birds"
images = 2
classes = 2
[id.birds]
train = "birds"
test = "birds"
[tables.one]
id = "birds"
ood = { Birds = "birds" }
[tables.one.rows.MCM]
method = "mcm"
"""
USUAL = ("--work", "work", "--device", "cpu", "--workers", "1")
LIGHT: dict[str, list[tuple[str, ...]]] = {
    "train-no": [("--yes", "yes.npy", "--no", "no.npy", "--work", "work")],
    "candidates": [("--from", "words.csv", "--split", "train", "--work", "work")],
    "score": [("--split", "test", "--work", "work", "--device", "cpu")],
    "undo": [("{log}",)],
    "bench": [
        (),
        ("--table", "3", "--published"),
        ("--table", "one", "--suite", "mine.toml", "--work", "bench"),
        ("--table", "one", "--suite", "mine.toml", "--work", "bench", "--dry-run"),
    ],
    "datasets": [("--suite", "mine.toml"), ("verify", "--suite", "mine.toml", "--data", "images-of")],
    "methods": [()],
    "models": [(), ("mini",), ("mini", "--weights")],
    "store info": [("--work", "work")],
    "store duplicates": [("--work", "work")],
    "words": [(), ("--classes", "left,right", "--model", "{model}", "--words", "words.txt")],
}
"""The words of commands that answer at once, without --format."""
INCOMPLETE = [("undo", 0), ("bench", 2)]
"""Those that keep what was changed, or have no data to measure: they write their rows and end with 1."""
HEAVY: dict[str, list[tuple[str, ...]]] = {
    "extract": [
        ("images", "--model", "{model}", "--split", "new", "--overwrite", *USUAL),
        ("images", "--model", "{model}", "--plan", *USUAL),
    ],
    "train-pos": [("--work", "work", *QUICK)],
    "train-neg": [("--work", "work", *QUICK)],
    "train-head": [("--work", "work", "--device", "cpu")],
    "select": [("--method", "mcm", "--method", "energy", "--work", "eight", "--device", "cpu")],
    "calibrate": [("--method", "mcm", "--work", "work", "--device", "cpu")],
    "eval": [("--method", "mcm", "--ood", "far", "--work", "work", "--device", "cpu")],
    "explain": [("images/left/0.png", "--work", "work", "--device", "cpu", "--to", "out")],
    "not": [("--work", "work", "--device", "cpu"), ("--work", "work", "--device", "cpu", "--each")],
}
"""Commands that learn or encode: with the added formats and a binary one; their own tests have the others."""


@pytest.fixture(scope="module")
def place(tmp_path_factory, tiny_backbone, tiny_model) -> Iterator[Path]:
    """Everything that the commands need, in the current folder; the two formats are added."""
    folder = tmp_path_factory.mktemp("formats")
    work = features_of(tiny_backbone.fingerprint, folder / "work", rows=60)
    train = read_split(work / "features.h5", "train")
    for name in ("test", "far"):
        labels = train.labels if name == "test" else np.full(60, -1, np.int32)
        rows = Split(name, train.features, labels, train.keys, train.classes if name == "test" else ())
        write_split(work / "features.h5", rows, tiny_backbone.fingerprint)
    random = np.random.default_rng(3)
    for label in ("left", "right"):
        for path in (folder / "images" / label, folder / "images-of" / "birds" / label):
            path.mkdir(parents=True)
            Image.fromarray(random.integers(0, 256, (32, 32, 3), np.uint8)).save(path / "0.png")
    (folder / "mine.toml").write_text(SUITE)
    (folder / "bars.py").write_text(BARS + TITLED)
    known_best(folder / "eight")
    np.save(folder / "yes.npy", random.normal(size=(3, 32)))
    np.save(folder / "no.npy", random.normal(size=(3, 32)))
    (folder / "words.txt").write_text("sofa\ntree\nthree-toed woodpecker\n")
    (folder / "words.csv").write_text("".join(f"{row:03}.jpg,sofa;tree\n" for row in range(60)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lsncli.extraction.estimate.PROBE_SECONDS", 0.0)
        patch.setattr("lsncli.bench.speeds.SECONDS", 0.0)
        patch.chdir(folder)
        patch.syspath_prepend(folder)
        for name, form in ADDED.items():
            patch.setitem(FORMATS, name, form)
        yield folder


@pytest.fixture(scope="module")
def command(place, tiny_model) -> Iterator[Callable[..., int]]:
    """``lsn`` built anew, as it is by a program that starts with the added rows."""
    before = {name: module for name, module in sys.modules.items() if f"{name}.".startswith("lsncli.cli.")}
    package = lsncli.cli
    for name in before:
        del sys.modules[name]
    try:
        from lsncli.cli.app import main

        def run(*words: str) -> int:
            log = next((place / "sorted").glob("lsn-undo-*"), "")
            with pytest.raises(SystemExit) as stop:
                main([word.format(model=tiny_model, log=log) for word in words])
            return int(stop.value.code or 0)

        for words in (
            ("train-pos", "--work", "work", *QUICK),
            ("calibrate", "--method", "mcm", "--work", "work", "--device", "cpu"),
            ("score", "images", *USUAL, "--copy", "sorted", "--yes"),
        ):
            assert run(*words) == 0
        for copied in (place / "sorted").rglob("*.png"):
            copied.write_bytes(b"changed")  # so that undo has rows: what it keeps
        yield run
    finally:
        for name in [name for name in sys.modules if f"{name}.".startswith("lsncli.cli.")]:
            del sys.modules[name]
        sys.modules.update(before)
        lsncli.cli = package


def names_in(path: Path, name: str) -> tuple[str, ...]:
    """The names of the columns in a file of a format that says them, else nothing."""
    text = path.read_bytes()
    if name == "csv":
        return tuple(text.decode().splitlines()[0].split(","))
    if name == "jsonl":
        return tuple(json.loads(text.splitlines()[0]))
    if name == "json":
        whole = json.loads(text)
        return tuple(whole[0]) if isinstance(whole, list) else ()  # a published table is one object
    if FORMATS[name].binary:
        return tuple(pytest.importorskip("pyarrow.parquet").read_table(path).column_names)
    return ()


@pytest.mark.parametrize("name", [*LIGHT, *HEAVY])
def test_every_command_writes_every_format(command, place, name) -> None:
    for number, words in enumerate((LIGHT | HEAVY)[name]):
        named, fields = set(), 0
        for form in FORMATS if name in LIGHT else (*ADDED, "parquet"):
            path = place / "rows" / f"{name}-{number}.{form}"
            code = command(*name.split(), *words, "--format", form, "--output", str(path))
            assert code == (1 if (name, number) in INCOMPLETE else 0)
            assert path.stat().st_size > 0
            if form == "titled":
                assert path.read_text().startswith("== ")
            if form == "bars":
                fields = path.read_text().splitlines()[0].count("|") + 1
            named |= {names_in(path, form)} - {()}
        (names,) = named  # the same in every format
        assert len(names) == fields


LONG = {
    False: "red-breasted_merganser (Mergus serrator) CoCoOp + LSN:positive,form=logit",
    True: "/data/photos/2024-05-17 evening at the lake/originals/IMG_20240517_204512345_HDR.jpeg",
}
"""What names and wide texts may hold."""


@pytest.mark.parametrize("name", [*LIGHT, *HEAVY])
def test_every_table_of_every_command_is_whole_at_any_width(command, place, monkeypatch, name) -> None:
    bars = import_module("bars")
    monkeypatch.setenv("LSN_WIDE", "1")
    for words in (LIGHT | HEAVY)[name]:
        path = place / "titled"
        before = len(bars.tables)
        command(*name.split(), *words, "--format", "titled", "--output", str(path))
        tables = bars.tables[before:]
        assert tables
        for rows, columns in tables:
            long = [
                {c.key: f"{row[c.key]} {LONG[c.wide]}" for c in columns if isinstance(row.get(c.key), str)}
                for row in rows
            ]
            longer = [row | more for row, more in zip(rows, long, strict=True)]
            few = [column for column in columns if not column.detail]
            for width in WIDTHS:
                for those in (rows, longer):
                    check_table(those, columns, width, monkeypatch)
                    check_table(those, few, width, monkeypatch)


def test_the_page_adds_the_format_as_this_test_does() -> None:
    assert '"bars": Format("lsncli.report.bars:write", streams=True)' in PAGE
    assert "`lsncli/report/bars.py`" in PAGE


def test_no_command_with_a_format_is_left_out(command) -> None:
    from typer.main import get_command

    from lsncli.cli.app import app

    def all_of(one, name=""):
        if hasattr(one, "commands"):
            for word, inside in one.commands.items():
                yield from all_of(inside, f"{name} {word}".strip())
        elif any("--format" in parameter.opts for parameter in one.params):
            yield name

    assert sorted(all_of(get_command(app))) == sorted(LIGHT | HEAVY)


def test_people_get_the_sentences_below_a_table_in_any_format_for_them(command, place) -> None:
    words = ("bench", "--table", "3", "--published", "--format", "titled", "--output", "published")
    assert command(*words) == 0
    text = (place / "published").read_text()
    assert text.startswith("== Table 3: ")
    assert "\nMCM*|51.87|" in text
    assert text.endswith("Table 3.)\n")
    assert command("bench", *words[1:4], "--wide", *words[4:]) == 2
    assert command("bench", *words[1:4], "--wide", "--format", "bars", "--output", "wide") == 0
    assert (place / "wide").read_text().startswith("3|MCM|*||51.87|")


@pytest.mark.parametrize("name", ["train-pos", "eval", "score", "bench"])
@pytest.mark.parametrize("output", [(), ("--output", os.devnull)])
def test_a_binary_format_is_refused_before_the_work(lsn, place, name, output) -> None:
    words = (LIGHT | HEAVY)[name][-1]
    for given in ((*output, "--format", "parquet"), ("--format", "parquet", *output)):
        done = lsn(name, *given, *words)
        assert (done.code, done.out) == (2, "")
        assert done.err == (
            "Error: --format parquet is not for a terminal or a pipe.\nName a file with --output.\n"
        )


def test_a_package_that_is_missing_is_said_before_the_work(lsn, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    done = lsn("train-pos", "--work", "nowhere", "--format", "parquet", "--output", "rows.parquet")
    assert done.code == 5
    assert "lsncli[parquet]" in done.err


@pytest.mark.parametrize("name", FORMATS)
def test_every_row_of_the_registry_loads_and_says_the_truth(name, tmp_path) -> None:
    form, path, seen = FORMATS[name], tmp_path / "rows", []
    assert callable(registry.load(form.writer))
    for reference in filter(None, (form.needs, form.published)):
        assert callable(registry.load(reference))

    def rows():
        for word in ("first", "second"):
            yield {"key": word, "number": 0.5}
            (unfinished,) = tmp_path.iterdir()  # the file gets its name at the end
            seen.append(unfinished != path and word.encode() in unfinished.read_bytes())

    render(rows(), [Column("key", "Key"), Column("number", "Number", digits=2)], name, path, "Title")
    assert seen == [form.streams] * 2
    assert (b"\0" in path.read_bytes()) == form.binary


def test_the_option_takes_the_rows_of_the_registry(lsn) -> None:
    assert get_args(options.FormatName) == tuple(name for name in FORMATS if name not in ADDED)
    done = lsn("methods", "--format", "toml")
    assert done.code == 2
    assert all(f"'{name}'" in done.err for name in get_args(options.FormatName))


def test_no_code_has_a_list_of_formats_of_its_own() -> None:
    package = Path(lsncli.__file__).parent
    for path in set(package.rglob("*.py")) - set((package / "images").iterdir()):  # which reads such files
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            parts = node.elts if isinstance(node, ast.Tuple | ast.List | ast.Set) else []
            if isinstance(node, ast.Dict):
                parts = [key for key in node.keys if key]
            if isinstance(node, ast.Compare) and "format" in ast.unparse(node.left):
                parts = [node.left, *node.comparators, *node.comparators]
            words = [part.value for part in parts if isinstance(part, ast.Constant)]
            listed = [word for word in words if word in FORMATS]
            assert len(listed) < 2 or path.name == "formats.py", f"{path}:{node.lineno}: {listed}"
