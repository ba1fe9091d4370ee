"""Imports point downward, and only where the plan of the house allows it (docs/architecture.md)."""

import ast
import re
import sys
import tomllib
from collections import Counter
from graphlib import TopologicalSorter
from importlib.metadata import packages_distributions
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from lsncli import registry

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "lsncli"
MODULES = sorted(PACKAGE.rglob("*.py"))

LEVELS = (
    "credentials errors validation registry files locks signals types console config machine device memory "
    "optimizers __init__",
    "prompts scores metrics intervals open_set comparison threshold class_thresholds reference",
    "backbones images store",
    "artefacts extraction interchange",
    "methods",
    "detection",
    "training explanation",
    "evaluation selection",
    "report",
    "bench api api_selection",
    "cli __main__",
)
"""Rooms and modules, lowest first: each imports from lines above its own."""
LAYERS = {room: level for level, rooms in enumerate(LEVELS) for room in rooms.split()}

BESIDE = {
    ("__main__", "cli"),
    ("__init__", "api"),  # loaded when it is asked for
    ("__init__", "api_selection"),
    ("api_selection", "api"),
    ("threshold", "metrics"),
    ("class_thresholds", "threshold"),
    ("intervals", "metrics"),
    ("open_set", "metrics"),
    ("comparison", "metrics"),
    ("comparison", "intervals"),
    ("types", "validation"),
    ("config", "validation"),
    ("files", "errors"),
    ("locks", "errors"),
    ("locks", "files"),
    ("errors", "credentials"),
    ("registry", "errors"),
    ("console", "credentials"),
    *[(a, b) for a in ("types", "console", "config", "device", "memory") for b in ("errors", "types")],
    *[("machine", b) for b in ("errors", "files", "validation")],
    ("device", "machine"),
}
"""The imports that stay within a layer."""

BY_HAND = ("cosmic_ray",)
"""What one driver of tests/robustness uses where it is installed, and says so."""
BROUGHT = ("timm", "torchvision", "tokenizers")
"""Part of what open_clip and transformers are, in the release that fits them."""


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


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def test_no_modules_import_one_another_in_a_circle() -> None:
    known = {module_of(path): path for path in MODULES}
    imports = {
        module: {name if name in known else name.rpartition(".")[0] for name in imports_of(path)}
        & known.keys()
        for module, path in known.items()
    }
    del imports["lsncli"]  # loads the API when it is asked for
    order = TopologicalSorter({module: used - {module, "lsncli"} for module, used in imports.items()})
    order.prepare()  # raises CycleError, which names them


SHARDS = {
    "__main__.py",
    "credentials.py",
}
"""Modules outside ``scores/`` of fewer than 40 lines; this list only becomes shorter."""


def test_modules_are_no_shards() -> None:
    small = {
        path.relative_to(PACKAGE).as_posix()
        for path in MODULES
        if path.name != "__init__.py"
        and room_of(path) != "scores"
        and len(path.read_text(encoding="utf-8").splitlines()) < 40
    }
    assert small == SHARDS


def test_every_room_has_a_layer() -> None:
    assert {room_of(path) for path in MODULES} <= set(LAYERS)


@pytest.mark.parametrize("library", ["open_clip", "h5py", "simplejpeg", "typer", "torchvision"])
def test_a_library_lives_in_one_room(library: str) -> None:
    rooms = {"open_clip": "backbones", "h5py": "store", "simplejpeg": "images", "typer": "cli"}
    room = rooms.get(library, "backbones")
    users = {room_of(p) for p in MODULES if any(n.split(".")[0] == library for n in imports_of(p))}
    assert users <= {room}


def test_what_is_imported_is_declared() -> None:
    """A library that another one happens to bring is missing with that one's next, or oldest, release."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    required = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    declared = {normal(re.split(r"[^\w.-]", one)[0]) for one in required}
    files = [
        path
        for place in ("lsncli", "tests", "benchmarks", "examples")
        for path in ROOT.glob(f"{place}/**/*.py")
    ]
    ours = {"lsncli", "benchmarks", "tests", *(path.stem for path in files)}
    known = {*sys.stdlib_module_names, *BROUGHT, *BY_HAND, *ours}
    providers = packages_distributions()
    for path in files:
        for name in {one.split(".")[0] for one in imports_of(path)} - known:
            assert {normal(one) for one in providers.get(name, [name])} & declared, f"{path} imports {name}"


def test_modules_of_tests_have_names_of_their_own() -> None:
    """pytest imports them by name alone: of two of one name, whichever comes first is taken for both."""
    paths = [path for path in Path(__file__).parent.rglob("*.py") if path.name != "conftest.py"]
    assert [name for name, count in Counter(path.name for path in paths).items() if count > 1] == []
    assert [path for path in paths if "conftest" in {name.split(".")[0] for name in imports_of(path)}] == []


def normal(name: str) -> str:
    """The name of a distribution as package indexes compare them."""
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_stay_small_and_say_what_they_are(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 400
    if text.strip() and path.name != "__init__.py":
        assert ast.get_docstring(ast.parse(text)), f"{path} has no docstring"


def references() -> set[str]:
    """Every ``module:name`` that the package's registries, or anything else in it, hold as a text."""
    nodes = (node for path in MODULES for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    texts = (node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))
    return {text for text in texts if re.fullmatch(r"lsncli(\.\w+)+:\w+", text)}


def test_everything_that_a_registry_names_is_there() -> None:
    found = references()
    assert len(found) > 60
    for reference in found:
        registry.load(reference)


def test_the_registries_that_the_plan_names_are_there() -> None:
    plan = (PACKAGE.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| an? [\w ]+ \| `([A-Z]+)`, `([\w/]+)\.py` \|", plan, re.MULTILINE)
    assert len(rows) == 7
    for name, path in rows:
        module = f"lsncli.{path.replace('/', '.')}".removesuffix(".__init__")
        assert isinstance(registry.load(f"{module}:{name}"), dict)


def test_the_paths_of_an_image_and_a_prompt_name_what_exists() -> None:
    plan = (PACKAGE.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    steps = plan.split("## The path of an image")[1].split("## Where to add what")[0]
    pairs = re.findall(r"`(\w+)`[ ,(\s]+`([\w/]+)\.py`\)", steps)
    assert len(pairs) > 20
    for name, path in pairs:
        code = ast.parse((PACKAGE / f"{path}.py").read_text(encoding="utf-8"))
        assert name in {getattr(node, "name", None) for node in code.body}, f"{path}.py has no {name}"


def test_docs_name_every_room() -> None:
    plan = (PACKAGE.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    rooms = {room_of(path) for path in MODULES} - {"__init__", "__main__"}
    assert not {room for room in rooms if not re.search(rf"\b{room}\b", plan)}


def test_the_picture_of_the_rooms_is_that_of_the_code() -> None:
    code = (ROOT / "docs" / "draw_rooms.py").read_text(encoding="utf-8")
    draw: dict[str, Any] = {"__name__": "draw_rooms", "__file__": str(ROOT / "docs" / "draw_rooms.py")}
    exec(compile(code, "draw_rooms.py", "exec"), draw)
    plan = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert draw["drawing"]() in plan, "run: make docs"
