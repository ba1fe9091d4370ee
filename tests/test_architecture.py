"""Imports point downward, and only where the plan of the house allows it (docs/architecture.md)."""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "lsncli"
MODULES = sorted(PACKAGE.rglob("*.py"))

LAYERS = {
    **dict.fromkeys(
        ["errors", "records", "disk", "interrupts", "types", "console", "config", "device", "__init__"], 0
    ),
    **dict.fromkeys(["prompts", "scores", "metrics", "intervals", "threshold", "facts"], 1),
    **dict.fromkeys(["backbones", "images", "store", "artefacts"], 2),
    "app": 3,
    **dict.fromkeys(["cli", "bench", "report", "api", "__main__"], 4),
}

BESIDE = {
    ("cli", "report"),
    ("cli", "bench"),
    ("bench", "report"),
    ("__main__", "cli"),
    ("__init__", "api"),  # loaded when it is asked for
    ("threshold", "metrics"),
    ("intervals", "metrics"),
    ("types", "records"),
    ("disk", "errors"),
    *[(a, b) for a in ("types", "console", "config", "device") for b in ("errors", "types")],
}
"""The imports that stay within a layer."""


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path: Path) -> list[str]:
    """Full names of every module a file imports, inside functions too."""
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_downward(path: Path) -> None:
    own = room_of(path)
    for name in imports_of(path):
        parts = name.split(".")
        if parts[0] != "lsncli" or len(parts) < 2 or parts[1] not in LAYERS:
            continue
        other = parts[1]
        if other == own or other == "__init__":
            continue
        allowed = LAYERS[other] < LAYERS[own] or (own, other) in BESIDE
        assert allowed, f"{own} (layer {LAYERS[own]}) imports {name} (layer {LAYERS[other]})"


def test_every_room_has_a_layer() -> None:
    assert {room_of(path) for path in MODULES} <= set(LAYERS)


@pytest.mark.parametrize("library", ["open_clip", "h5py", "simplejpeg", "typer", "torchvision"])
def test_a_library_lives_in_one_room(library: str) -> None:
    rooms = {"open_clip": "backbones", "h5py": "store", "simplejpeg": "images", "typer": "cli"}
    room = rooms.get(library, "backbones")
    users = {room_of(p) for p in MODULES if any(n.split(".")[0] == library for n in imports_of(p))}
    assert users <= {room}


def test_nothing_imports_click() -> None:
    assert not [p for p in MODULES if any(n.split(".")[0] == "click" for n in imports_of(p))]


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_stay_small_and_say_what_they_are(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 400
    if text.strip() and path.name != "__init__.py":
        assert ast.get_docstring(ast.parse(text)), f"{path} has no docstring"


def test_docs_name_every_room() -> None:
    plan = (PACKAGE.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    rooms = {room_of(path) for path in MODULES} - {"__init__", "__main__"}
    assert not {room for room in rooms if not re.search(rf"\b{room}\b", plan)}
