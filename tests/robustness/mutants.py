"""Small faults put into the code: how many of them do its tests notice?

    python -m tests.robustness.mutants [--each 8] [--seed 0] [--only store] [--survivors] [--record]

The faults are those of cosmic-ray (``pip install cosmic-ray``): another operator, comparison, number or
truth value, ``not`` added, loops and branches that end early. A full run would take days, so this is a
*sample*: of each module in ``TESTS`` the places that can be changed are put in random order, a place gets one
of its faults at random, and the first ``--each`` are tried; a larger sample holds the smaller one. Changes of
annotations and docstrings do not count. Each fault is tried with the tests beside the module, not with all.

cosmic-ray alone has one test command for all modules, and starts Python, torch and pytest for every fault.
Here a process that has imported them is forked, which takes a tenth of the time. Linux only; it works on a
copy. ``--record`` writes benchmarks/results/mutants.json and keeps what it holds of other modules in it;
``--survivors`` tries those again that survived there.
"""

import argparse
import ast
import contextlib
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.records import read, record

ROOT = Path(__file__).parents[2]
MEMORY = 6 << 30
"""Bytes of data of a process that tries a fault: a loop may collect without end."""
PATIENCE = 120.0
"""Seconds that a fault gets beside five times what the tests take without one."""

STORE = "tests/store"
COMMON = "tests/scores/test_common.py"
IMAGES = "tests/images"
TESTS: dict[str, tuple[str, ...]] = {
    "metrics": ("tests/test_metrics.py", "tests/test_intervals.py"),
    "intervals": ("tests/test_intervals.py",),
    "threshold": ("tests/test_threshold.py", "tests/test_interval_coverage.py"),
    "scores/common": (COMMON, *(f"tests/scores/test_{name}.py" for name in ("lsn", "knn", "energy", "mcm"))),
    "scores/knn": ("tests/scores/test_knn.py", COMMON),
    "scores/lsn": ("tests/scores/test_lsn.py", COMMON),
    "scores/mahalanobis": ("tests/scores/test_mahalanobis.py", COMMON),
    "scores/neglabel": ("tests/scores/test_neglabel.py", COMMON),
    "scores/neighbours": (
        "tests/scores/test_neighbours.py",
        "tests/scores/test_knn.py",
        "tests/scores/test_nnguide.py",
    ),
    "scores/react": ("tests/scores/test_react.py", "tests/scores/test_activations.py", COMMON),
    "scores/vim": ("tests/scores/test_vim.py", "tests/scores/test_residual.py", COMMON),
    "locks": (f"{STORE}/test_locks.py",),
    **{
        f"store/{name}": tuple(f"{STORE}/test_{one}.py" for one in own)
        for name, own in {
            "container": ("container", "mapped", "reader", "writer"),
            "external_rows": ("merge", "parts"),
            "format": ("format", "golden", "verify"),
            "integrity": ("integrity",),
            "merge": ("merge", "parts"),
            "part": ("parts", "writer"),
            "reader": ("reader", "writer", "integrity"),
            "staging": ("parts", "merge"),
            "verify": ("verify",),
            "writer": ("writer", "reader", "merge"),
        }.items()
    },
    "artefacts/detector": ("tests/artefacts/test_detector_artefact.py", "tests/artefacts/test_forms.py"),
    "artefacts/files": ("tests/artefacts/test_artefact_files.py", "tests/artefacts/test_forms.py"),
    "artefacts/heads": ("tests/artefacts/test_head_artefact.py", "tests/artefacts/test_forms.py"),
    "artefacts/prompts": ("tests/artefacts/test_prompts_artefact.py", "tests/artefacts/test_forms.py"),
    "images/listing": (f"{IMAGES}/test_shards.py",),
    "images/budget": (f"{IMAGES}/test_budget.py",),
    "images/decode": (*(f"{IMAGES}/test_{one}.py" for one in ("decode", "metadata", "modes")),),
    "images/remote": (f"{IMAGES}/test_hostile_servers.py", f"{IMAGES}/test_remote.py"),
    "images/folder": (f"{IMAGES}/test_patterns.py",),
    "images/tar_stream": (f"{IMAGES}/test_packed.py", f"{IMAGES}/test_shards.py"),
    "images/metadata": (f"{IMAGES}/test_metadata.py",),
    "images/tiff": tuple(f"{IMAGES}/test_{one}.py" for one in ("metadata", "decode", "second_decoder")),
}
"""Modules of ``lsncli`` and the tests that they are tried with, their own first."""

FROZEN = "nothing sets a field of it"
EQUIVALENT: dict[tuple[str, str], str] = {
    ("artefacts/prompts", "@dataclass(frozen=False)"): FROZEN,
    ("scores/neglabel", "@dataclass(frozen=False)"): FROZEN,
    ("scores/react", "@dataclass(frozen=False)"): FROZEN,
    ("scores/vim", "@dataclass(frozen=False)"): FROZEN,
    ("scores/lsn", "@dataclass(frozen=False)"): FROZEN,
    ("store/format", "@dataclass(frozen=False)"): FROZEN,
    ("store/format", "@dataclass(frozen=False, eq=False)"): FROZEN,
    ("store/container", "MAPPED = 1 << 25"): "from which size on arrays are mapped; what is read is the same",
    (
        "store/staging",
        "FINISH_WAIT = 59.0",
    ): "how long another writer is waited for; no promise names the seconds",
    (
        "scores/neighbours",
        "return wide / torch.where(norms == 0, 2.0, norms)",
    ): "a zero by 1 or by 2 is zero",
    ("store/integrity", "BUFFER = 1 << 23"): "how much is read at a time; the digest is the same",
    (
        "store/integrity",
        "rows = max(1, BUFFER * len(dataset) | dataset.nbytes)",
    ): "how much is read at a time; the digest is the same",
    ("store/part", "COMMIT_SECONDS = 11.0"): "how often work is committed; no promise names the seconds",
    (
        "store/verify",
        'if not (features <= features).all() or (abs(features) == float("inf")).any():',
    ): "x <= x is x == x for every float",
    (
        "scores/knn",
        "farthest = np.take_along_axis(places, cosine.argmin(axis=1)[:, None], axis=1)[:, -1]",
    ): "the array has one column",
    (
        "scores/neighbours",
        "tiles = [_tile(bank, start).to(where) for start in range( -1, len(bank), BANK)] if resident else []",
    ): "only on CUDA, where tests need a GPU",
    ("images/metadata", "head = data if end < 1 else data[:end]"): "a file that begins with mdat is no AVIF",
    ("images/metadata", "continue"): "at the end of the file every further chunk is empty",
}
"""Faults that change nothing that anybody could see, by module and changed line, with the reason."""


@dataclass(frozen=True)
class Mutant:
    """A fault: the line of ``module`` (from 1) that it changes, before and after, and what became of it."""

    module: str
    line: int
    before: str
    after: str
    operator: str
    occurrence: int
    result: str = ""


def key(one: Mutant) -> tuple[str, str, str, str, int]:
    """What makes it the same fault, also when lines above it were added."""
    return one.module, one.before, one.after, one.operator, one.occurrence


def mutants(module: str, seed: int) -> Iterator[Mutant]:
    """Faults of a module, one a place, in random order; equal seeds and code give equal ones."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.plugins import get_operator, operator_names

    source = (ROOT / "lsncli" / f"{module}.py").read_text(encoding="utf-8")
    tree = get_ast(source)
    places: dict[object, list[tuple[str, int]]] = {}
    for name in sorted(operator_names()):
        kind = get_operator(name)
        if kind.arguments():  # faults that need names of variables
            continue
        found = (place for node in ast_nodes(tree) for place in kind().mutation_positions(node))
        for occurrence, (start, _) in enumerate(found):
            places.setdefault(start, []).append((name, occurrence))
    order = random.Random(f"{seed} {module}")
    starts = sorted(places)  # type: ignore[type-var]
    order.shuffle(starts)
    for start in starts:
        name, occurrence = order.choice(places[start])
        changed = mutated(source, name, occurrence)
        if meaning(changed) == meaning(source):
            continue
        old, new = source.splitlines(), changed.splitlines()
        line = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), 0)
        yield Mutant(module, line + 1, old[line].strip(), new[line].strip(), name.split("/")[1], occurrence)


def mutated(source: str, operator: str, occurrence: int) -> str:
    """The code with a fault."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    name = operator if "/" in operator else f"core/{operator}"
    changed: str | None = mutate_code(source, get_operator(name)(), occurrence)
    assert changed is not None
    return changed


def meaning(source: str) -> str:
    """The code as Python reads it, without annotations and docstrings; empty if it does not parse."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return ""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.returns = None
        elif isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(None)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            node.value = ast.Constant(None)
    return ast.dump(tree)


def attempt(copy: Path, module: str, code: str, seconds: float) -> tuple[str, float]:
    """What the tests of a module say of this code ("passed", "failed", "broken", "endless"), and seconds."""
    path = copy / "lsncli" / f"{module}.py"
    path.write_text(code, encoding="utf-8")
    for compiled in path.parent.glob(f"__pycache__/{path.stem}.*"):  # known by size and second alone
        compiled.unlink()
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        _try(copy, TESTS[module])
    while (status := _ended(child)) is None:
        if time.monotonic() - began > seconds:
            break
        time.sleep(0.05)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # with what the tests started
    if status is None:
        os.waitpid(child, 0)
        return "endless", time.monotonic() - began
    names = {0: "passed", 1: "failed"}
    return names.get(os.waitstatus_to_exitcode(status), "broken"), time.monotonic() - began


def _ended(child: int) -> int | None:
    done, status = os.waitpid(child, os.WNOHANG)
    return status if done else None


def _try(copy: Path, tests: Sequence[str]) -> None:
    """In the child: run the tests in the copy and end with pytest's code."""
    code = 3
    try:
        code = _tested(copy, tests)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _tested(copy: Path, tests: Sequence[str]) -> int:
    import pytest

    os.setsid()
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    os.chdir(copy)
    sys.path[0] = str(copy)
    os.environ["PYTHONPATH"] = str(copy)
    for name in [name for name in sys.modules if name.split(".")[0] in ("benchmarks", "tests", "lsncli")]:
        del sys.modules[name]
    with open(copy / "said", "w") as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
    return int(pytest.main(["-x", "-W", "error", "-n0", "-p", "no:cacheprovider", *tests]))


def sample(modules: Sequence[str], each: int, seed: int) -> list[Mutant]:
    """The first faults of every module, in turns, so that a run that is stopped has some of each."""
    drawn = [[one for one, _ in zip(mutants(module, seed), range(each), strict=False)] for module in modules]
    return [found[turn] for turn in range(each) for found in drawn if turn < len(found)]


def run(chosen: Sequence[Mutant], copy: Path) -> Iterator[Mutant]:
    """Every fault with what became of it; the tests of a module must pass without one first."""
    limits: dict[frozenset[str], float] = {}
    sources = {
        module: (copy / "lsncli" / f"{module}.py").read_text(encoding="utf-8")
        for module in {one.module for one in chosen}
    }
    for one in chosen:
        tests = frozenset(TESTS[one.module])
        source = sources[one.module]
        if tests not in limits:
            said, seconds = attempt(copy, one.module, source, 600)
            if said != "passed":
                raise SystemExit(
                    f"{one.module}: its tests {said} without a fault.\n{(copy / 'said').read_text()[-3000:]}"
                )
            limits[tests] = PATIENCE + 5 * seconds
        code = mutated(source, one.operator, one.occurrence)
        said, _ = attempt(copy, one.module, code, limits[tests])
        (copy / "lsncli" / f"{one.module}.py").write_text(source, encoding="utf-8")
        if said == "passed":
            said = "equivalent" if (one.module, one.after) in EQUIVALENT else "survived"
        yield replace(one, result=said)


def totals(done: Sequence[Mutant]) -> dict[str, int]:
    """How many faults were made and what became of them; "broken" ones did not even import."""
    found = {"made": len(done), "killed": sum(one.result in ("failed", "broken", "endless") for one in done)}
    return found | {
        result: sum(one.result == result for one in done)
        for result in ("survived", "equivalent", "endless", "broken")
    }


def main() -> int:
    """Try the sample, print what survived, and record on demand."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--each", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="modules whose name begins so, divided by commas")
    parser.add_argument("--survivors", action="store_true")
    parser.add_argument("--record", action="store_true")
    given = parser.parse_args()
    if find_spec("cosmic_ray") is None:
        sys.exit("This needs cosmic-ray, which makes the faults: pip install cosmic-ray")
    recorded: list[Mutant] = []
    modules = [name for name in TESTS if name.startswith(tuple(given.only.split(",")))]
    content, _ = read("mutants")
    if content is not None:
        if given.survivors:
            given.each, given.seed = content["each"], content["seed"]
        if (given.each, given.seed) == (content["each"], content["seed"]):
            recorded = [Mutant(**one) for one in content["mutants"] if one["module"] in TESTS]
    chosen = sample(modules, given.each, given.seed)
    if given.survivors:
        found = {key(one) for one in recorded if one.result in ("survived", "equivalent")}
        chosen = [one for one in chosen if key(one) in found]
    for name in ("pytest", "torch", "h5py", "scipy.stats", "pandas", "PIL.Image", "safetensors"):
        __import__(name)
    done = []
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        hidden = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "lsn-work")
        shutil.copytree(ROOT, copy, ignore=hidden, symlinks=True)
        try:
            for one in run(chosen, copy):
                done.append(one)
                print(f"{one.result:10} {one.module}:{one.line}: {one.before}  ->  {one.after}", flush=True)
        except KeyboardInterrupt:
            print("Stopped; what follows is of the faults that were tried.")
    print(totals(done))
    if given.record:  # what was not tried now is kept
        done = list({key(one): one for one in (*recorded, *done)}.values())
        by_module = {name: totals([one for one in done if one.module == name]) for name in TESTS}
        parts: dict[str, Any] = {"each": given.each, "seed": given.seed, "totals": totals(done)}
        parts["modules"] = {name: found for name, found in by_module.items() if found["made"]}
        reasons = [{"module": m, "line": line, "reason": why} for (m, line), why in EQUIVALENT.items()]
        parts |= {"equivalent": reasons, "mutants": [asdict(one) for one in done]}
        what = "a sample of faults, each tried with the tests of its module"
        record("mutants", what, for_all_machines=True, **parts)
    return 0


if __name__ == "__main__":
    sys.exit(main())
