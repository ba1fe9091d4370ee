"""What `lsn select` chooses without OOD images, and how good the choice is on OOD images it has never seen.

    python -m benchmarks.accuracy.selection [--only NAME ...] [--prompts] [--record]

ID sets: Imagenette, the five splits of Tiny-ImageNet (20 classes), of CIFAR-10 (6) and of CIFAR-100 (20),
at most 50 training images of a class. Near OOD: the other classes of the same set (Imagenette: 495 photos
of other ImageNet classes). Far OOD: flowers, scenes, places and textures. Each method that is compared is
then fitted to all training rows and tested; "regret" is to the best of them. "with --foreign" repeats the
choice with 500 other photos of ImageNet classes. "near only" and "far only" are choices by one axis, for
comparison.

All CIFAR and Tiny-ImageNet images are 32 and 64 pixels wide, and far OOD images are sharp photos, which no
class that is left out can tell. CIFAR's features are extracted once (LSN_IMAGES, benchmarks.mini.store).
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.mini import store
from benchmarks.records import record
from lsncli.backbones import load_again
from lsncli.device import seeded, threads_for
from lsncli.evaluation.demo import STORE
from lsncli.evaluation.evaluate import AVERAGE, evaluate, plan_evaluation
from lsncli.methods.spec import Method, adapted, parse_method
from lsncli.methods.workspace import Workspace
from lsncli.prompts.learner import learn
from lsncli.prompts.loop import Checkpoint
from lsncli.reference.classes import open_set
from lsncli.selection.axes import Prompts, near
from lsncli.selection.choose import Choice
from lsncli.selection.folds import Fold, take
from lsncli.selection.methods import PROMPTS
from lsncli.selection.prompts import SETTINGS
from lsncli.selection.select import EVERYTHING, SelectionPlan, learn_for, plan_selection, select
from lsncli.store.format import Split
from lsncli.store.reader import read_fingerprint, read_split
from lsncli.store.writer import write_split
from lsncli.training.prompts import plan_negative, plan_positive, train_prompts

BUNDLED = Path(__file__).parents[2] / "lsncli" / "reference" / STORE
FAR = ("plants-flowers", "scenes-intel6", "places-natural13", "textures-dtd10")
PHOTOS = "imagenet-1perclass"
FIXED = ("mcm", "energy", "neglabel", "ensemble")
MOST = 50
FOREIGN, TEST, TRAIN = "foreign", "test", "train"


@dataclass(frozen=True)
class Task:
    """One ID set with its OOD sets, near first, and photos that are of no class."""

    name: str
    train: Split
    test: Split
    ood: tuple[Split, ...]
    foreign: Split


def of_classes(split: Split, names: Sequence[str], name: str, most: int = 0) -> Split:
    """Return the rows of the classes ``names``, at most ``most`` of each, as another split."""
    numbers = [split.classes.index(each) for each in names]
    rows = []
    for number in numbers:
        own = np.flatnonzero(split.labels == number)
        rows.append(np.random.default_rng([0, number]).permutation(own)[: most or None])
    return take(split, np.sort(np.concatenate(rows)), numbers, name)


def tasks() -> Iterator[Task]:
    """Yield the ID sets."""
    far = tuple(read_split(BUNDLED, name) for name in FAR)
    photos = read_split(BUNDLED, PHOTOS)

    def halves(known: Sequence[str]) -> tuple[Split, Split]:
        others = [name for name in photos.classes if name not in known]
        return of_classes(photos, others[::2], FOREIGN), of_classes(photos, others[1::2], "near")

    train, test = (read_split(BUNDLED, f"imagenette-{part}") for part in (TRAIN, "val"))
    foreign, near = halves(train.classes)
    yield Task("imagenette", replace(train, name=TRAIN), replace(test, name=TEST), (near, *far), foreign)
    for key, tested in (("tinyimagenet", "val"), ("cifar10", TEST), ("cifar100", TEST)):
        train, test = (image_set(f"{key}-{part}") for part in (TRAIN, tested))
        for number, split in enumerate(open_set(key).splits):
            inside = list(split.id_names)
            rest = [name for name in test.classes if name not in inside]
            yield Task(
                f"{key} {number + 1}",
                of_classes(train, inside, TRAIN, MOST),
                of_classes(test, inside, TEST),
                (of_classes(test, rest, "near", 1000 // len(rest)), *far),
                halves(inside)[0],
            )


def image_set(name: str) -> Split:
    """Return a set of the mini suite; CIFAR's, which does not come with lsn, from the cache of benchmarks."""
    return (
        store.read_set(name, store.default_cache()) if name.startswith("cifar") else read_split(BUNDLED, name)
    )


def real_auroc(work: Workspace, names: Sequence[str], task: Task) -> dict[str, dict[str, float]]:
    """Return the AUROC of each method on each OOD set, fitted to the training rows."""
    methods = {name: parse_method(name) for name in names}
    plan = plan_evaluation(work, list(methods.values()), task.test, list(task.ood), TRAIN, keep=False)
    results = evaluate(plan).results
    found: dict[str, dict[str, float]] = {}
    for name, method in methods.items():
        head = adapted(method, plan.methods[0].heads)
        own = [each for each in results if each.method == head and each.ood != AVERAGE]
        if own:
            found[name] = {each.ood: each.metrics.auroc for each in own}
    return found


def by_one_axis(choice: Choice, axis: str) -> str:
    """Return the best method by the near or the far axis alone."""
    return max(choice.compared, key=lambda row: float(np.mean(list(getattr(row, axis).values())))).method


def approximations(plan: SelectionPlan, learned: Mapping[Fold, Prompts]) -> dict[str, dict[str, float]]:
    """Return the near AUROC of each method with prompts: learned without the classes, and two cheap ways.

    ``all classes``: learned once on all classes, and the text of those left out removed. ``warm start``: the
    contexts of that training, learned on without the classes from epoch 80 or 50 of 100.
    """
    tower = plan.scope.heads.tower
    every = learned[EVERYTHING]

    def known(fold: Fold) -> list[int]:
        return [label for label in range(len(plan.scope.split.classes)) if label not in fold.held_out]

    def all_classes(fold: Fold) -> Prompts:
        classes = tuple(plan.scope.split.classes[label] for label in known(fold))
        return {
            kind: replace(each, classes=classes, text=each.text[:, known(fold)])
            for kind, each in every.items()
            if each.text is not None
        }

    def warm_start(fold: Fold, share: float) -> Prompts:
        fit, found = plan.fit(fold), {}
        for kind, settings in SETTINGS.items():
            contexts = torch.from_numpy(every[kind].contexts)
            if settings.specific:
                contexts = contexts[:, known(fold)]
            tensors = {f"contexts.{number}": each for number, each in enumerate(contexts)}
            tensors["generator"] = seeded(settings.seed + 1).get_state()
            begun = Checkpoint(tensors, (float("nan"),) * int(share * settings.epochs))
            with threads_for(tower.vocabulary.width):
                text = learn(tower, fit.rows, fit.classes, settings, resume=begun).text
            found[kind] = replace(every[kind], classes=fit.classes, text=text)
        return found

    ways: dict[str, Callable[[Fold], Prompts]] = {
        "exact": lambda fold: learned[fold],
        "all classes": all_classes,
        "warm start 80": lambda fold: warm_start(fold, 0.8),
        "warm start 50": lambda fold: warm_start(fold, 0.5),
    }
    methods = {name: method for name, method in plan.methods.items() if name in PROMPTS}
    return {way: _mean_near(plan, methods, prompts_of) for way, prompts_of in ways.items()}


def _mean_near(
    plan: SelectionPlan, methods: Mapping[str, Method], prompts_of: Callable[[Fold], Prompts]
) -> dict[str, float]:
    values: dict[str, list[float]] = {name: [] for name in methods}
    failed: dict[str, str] = {}
    for fold in plan.folds:
        aurocs, _ = near(replace(plan.scope, prompts=prompts_of(fold)), fold, methods, failed)
        for name, each in aurocs.items():
            values[name] += each.tolist()
    assert not failed, failed
    return {name: round(float(np.mean(each)), 4) for name, each in values.items()}


def learn_prompts(work: Workspace) -> None:
    """Learn the prompts of the workspace, as train-pos and train-neg do by default."""
    backbone = load_again(read_fingerprint(work.features), device="cpu")
    for plan_of, kind in ((plan_positive, "positive"), (plan_negative, "negative")):
        train_prompts(work, backbone, plan_of(work), SETTINGS[kind])


def measure(task: Task, prompts: bool) -> dict[str, Any]:
    """Choose for one ID set, with and without foreign photos, and test all methods."""
    with tempfile.TemporaryDirectory() as folder:
        work = Workspace(Path(folder))
        for split in (task.train, task.test, *task.ood, task.foreign):
            write_split(work.features, split, read_fingerprint(BUNDLED))
        began = time.perf_counter()
        plan, learned = learn_for(plan_selection(work, prompts=prompts))
        learning = time.perf_counter() - began
        selection = select(plan, learned)
        seconds = time.perf_counter() - began
        choice = selection.choice
        photos = select(plan_selection(work, foreign=[FOREIGN], prompts=False), {}).choice
        approximated = approximations(plan, learned) if prompts else {}
        if prompts:
            learn_prompts(work)
        real = real_auroc(work, [row.method for row in choice.compared], task)
    mean = {name: float(np.mean(list(values.values()))) for name, values in real.items()}
    return {
        "name": task.name,
        "classes": len(task.train.classes),
        "rows": len(task.train.labels),
        "seconds": round(seconds, 1),
        "seconds_of_prompts": round(learning, 1),
        "choices": {
            "lsn select": choice.method,
            "with --foreign": photos.method,
            "near only": by_one_axis(choice, "near"),
            "far only": by_one_axis(choice, "far"),
            **{f"always {name}": name for name in FIXED},
        },
        **({"approximations": approximated} if prompts else {}),
        "verdict": choice.verdict,
        "runner_up": choice.runner_up,
        "failed": sorted(selection.failed),
        "auroc": {name: round(mean[name], 4) for name in sorted(mean, key=lambda name: -mean[name])},
        "by_set": {name: {key: round(x, 4) for key, x in real[name].items()} for name in real},
        "axes": {
            row.method: {
                "near": round(float(np.mean(list(row.near.values()))), 4),
                **{key: round(value, 4) for key, value in row.far.items()},
                "over_default": [round(x, 4) for x in astuple(row.over_default)],
            }
            for row in choice.compared
        },
    }


def summarise(found: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return each rule's mean and least gain over MCM and its mean regret, in points of AUROC."""
    table: dict[str, dict[str, float]] = {}
    for rule in found[0]["choices"]:
        pairs = [(each["auroc"], each["choices"][rule]) for each in found]
        gains = [100 * (auroc[name] - auroc["mcm"]) for auroc, name in pairs]
        regrets = [100 * (max(auroc.values()) - auroc[name]) for auroc, name in pairs]
        table[rule] = {
            "gain": round(float(np.mean(gains)), 2),
            "least gain": round(min(gains), 2),
            "regret": round(float(np.mean(regrets)), 2),
        }
    return table


def show(found: Sequence[dict[str, Any]]) -> None:
    """Print a line for each ID set, and the rules."""
    for each in found:
        name, auroc = each["choices"]["lsn select"], each["auroc"]
        best = max(auroc, key=lambda name: auroc[name])
        print(
            f"{each['name']:15}{name:14}{100 * auroc[name]:6.1f}  mcm {100 * auroc['mcm']:5.1f}  best "
            f"{best:12}{100 * auroc[best]:6.1f}  foreign {each['choices']['with --foreign']:14}"
            f"{each['seconds']:7.1f} s  {each['verdict']}"
        )
    for rule, values in summarise(found).items():
        print(f"{rule:18}" + "".join(f"{key} {value:6.2f}   " for key, value in values.items()))


def main(arguments: Sequence[str] | None = None) -> None:
    """Choose and test for every ID set, print, and record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", nargs="+", default=[""], help="ID sets whose name begins with one of these")
    parser.add_argument(
        "--prompts", action="store_true", help="with learned prompts: minutes for each ID set"
    )
    parser.add_argument("--record", action="store_true", help="write benchmarks/results")
    options = parser.parse_args(arguments)
    found = []
    for task in tasks():
        if task.name.startswith(tuple(options.only)):
            found.append(measure(task, options.prompts))
            show(found[-1:])
    show(found)
    if options.record:
        name = "selection-prompts" if options.prompts else "selection"
        what = "The choice of lsn select on the mini suite, by python -m benchmarks.accuracy.selection"
        record(name, what, model="mini", rules=summarise(found), sets=found)


if __name__ == "__main__":
    store.exit_like_lsn(main)
