"""Public functions, classes and methods are documented, in words that readers know."""

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "lsncli"
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__main__.py")

LONGEST = 110
UNUSUAL = {
    "cannot " + "be meant": "is invalid",
    "hears" + " of": "is called with",
    "hangs" + " on": "depends on",
    "passed" + " over": "skipped",
    "cannot " + "be had": "is unavailable",
    "that is " + "learned from": "training data",
    "what it " + "would take": "the estimate",
}
"""Phrases, written in two halves so that this file does not contain them, and what to write instead."""
HISTORY = ("docs/decisions/0025", "CHANGELOG.md")
"""Pages that quote what was written before."""


def public(module: object) -> Iterator[tuple[str, object, bool]]:
    """Public functions and classes that a module defines, and their methods; whether each is a method."""
    for name, item in vars(module).items():
        if name.startswith("_") or getattr(item, "__module__", "") != module.__name__:  # type: ignore[attr-defined]
            continue
        item = inspect.unwrap(item) if callable(item) else item
        if not (inspect.isfunction(item) or inspect.isclass(item)):
            continue
        yield name, item, False
        if inspect.isclass(item):
            for method, member in vars(item).items():
                kinds = (property, classmethod, staticmethod)
                if method.startswith("_") or method in getattr(item, "__dataclass_fields__", ()):
                    continue
                if inspect.isfunction(member) or isinstance(member, kinds):
                    yield f"{name}.{method}", getattr(item, method), True


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_what_is_public_has_a_docstring_of_one_sentence_and_more(path: Path) -> None:
    """Methods may inherit theirs, such as those of file objects."""
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    problems = []
    for item, value, method in public(importlib.import_module(name)):
        text = inspect.getdoc(value) if method else (getattr(value, "__doc__", None) or "")
        first = (text or "").strip().partition("\n")[0]
        if not first:
            problems.append(f"{item}: no docstring")
        elif (own := getattr(value, "__doc__", None)) and not first.endswith("."):
            problems.append(f"{item}: the first line is no sentence: {own[:60]!r}")
        elif len(first) > LONGEST:
            problems.append(f"{item}: the first line has {len(first)} characters")
    assert not problems


def test_texts_use_the_usual_words() -> None:
    paths = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    for folder, pattern in (("lsncli", "*.py"), ("lsncli", "*.md"), ("docs", "*.md"), ("tests", "*.py")):
        paths += ROOT.joinpath(folder).rglob(pattern)
    found = []
    for path in paths:
        name = path.relative_to(ROOT).as_posix()
        if not name.startswith(HISTORY):
            text = re.sub(r"\s+", " ", path.read_text(encoding="utf-8"))
            found += [
                f"{name}: '{phrase}'; write: {usual}" for phrase, usual in UNUSUAL.items() if phrase in text
            ]
    assert not found
