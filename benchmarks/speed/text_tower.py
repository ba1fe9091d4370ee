"""A text pass with its gradient: time, memory and agreement with a plain tower of 77 positions.

    python -m benchmarks.speed.text_tower [--quick | --tiny]

One thread, random weights in the shape of OpenAI's ViT-B/32, names of ImageNet classes, contexts of 16.
Ratios are of CPU time. ``--quick`` takes 20 classes instead of 100 and leaves out the memory at 1,000; only
the full form writes results/text_tower.json, because a ratio at 20 classes is not the one to quote.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.records import record
from benchmarks.speed import plain_learning
from benchmarks.speed.models import PAPER, Model, class_names, contexts, text_model
from benchmarks.speed.peak import peak_in_new_process
from benchmarks.speed.timing import Rows, interleaved, table
from lsncli.errors import Unavailable
from lsncli.prompts.kernels import KERNELS, pick_kernel
from lsncli.prompts.layout import context_layout
from lsncli.prompts.text_features import bounded

BOUND = 1.25
"""GiB that chunked runs may use; the goal is a peak of 1.5."""

Backprop = Callable[[], tuple[Tensor, Tensor]]
"""A text pass: features (C, D) and the gradient of the context."""


@dataclass(frozen=True)
class Form:
    """The size of a run."""

    model: str
    classes: int
    length: int
    rounds: int
    peaks: int
    """Number of cases whose memory is measured."""
    isolated: bool = False
    """Whether every learner's steps are measured in a process of their own (``speed.training``)."""


FULL = Form(PAPER, 100, 16, 3, 12, isolated=True)
QUICK = Form(PAPER, 20, 16, 2, 6)
TINY = Form("tiny", 5, 4, 1, 2)
MANY = 1000
"""Classes of the large cases of memory."""


def kernels() -> list[str]:
    """Return the linear kernels that work here; print why one does not."""
    found = []
    for name in KERNELS[1:]:
        try:
            found.append(pick_kernel(name, 512, torch.device("cpu"), torch.float32))
        except Unavailable as error:
            print(error)
    return found


def text_pass(
    model: Model, names: list[str], length: int, specific: bool, variant: str, memory: float = 0
) -> Backprop:
    """Return a text pass by "plain", "plain cut" or a kernel, within ``memory`` GiB unless that is 0."""
    shape = (len(names), length, model.width) if specific else (length, model.width)
    start, direction = contexts(*shape), contexts(len(names), model.features, seed=1)
    if variant.startswith("plain"):
        frame = plain_learning.template(model.clip, model.tokenizer, names, length)
        encode = plain_learning.text_pass(model.clip, frame.cut() if variant == "plain cut" else frame)
    else:
        tower = model.tower(variant)
        layout = context_layout(tower.vocabulary, names, length, specific=specific)
        run = bounded(tower, layout, int(memory * 2**30)) if memory else tower.encoder(layout)
        encode = lambda context: run(context[None])[0]  # noqa: E731

    def backprop() -> tuple[Tensor, Tensor]:
        context = start.clone().requires_grad_()
        features = encode(context)
        (features * direction).sum().backward()
        assert context.grad is not None
        return features.detach(), context.grad

    return backprop


def peak_case(model: str, classes: int, length: int, specific: bool, variant: str, memory: float) -> Backprop:
    """Prepare a text pass for ``speed.peak``."""
    torch.set_num_threads(1)
    return text_pass(text_model(model), class_names(classes), length, specific, variant, memory)


def agreement(passes: dict[str, Backprop]) -> Rows:
    """Return ||ours - plain|| / ||plain|| of features and gradients."""
    results = {name: run() for name, run in passes.items()}
    features, gradient = next(iter(results.values()))
    return {
        name: {
            "features": float((own - features).norm() / features.norm()),
            "gradient": float((own_gradient - gradient).norm() / gradient.norm()),
        }
        for name, (own, own_gradient) in results.items()
    }


def memory_rows(form: Form, names: list[str]) -> Rows:
    """Return the peak memory of one pass by every variant, each in a new process."""
    cases = [(form.classes, specific, name, 0.0) for specific in (False, True) for name in ("plain", *names)]
    cases += [(MANY, False, name, 0.0) for name in names]
    cases += [(MANY, specific, name, BOUND) for specific in (False, True) for name in names]
    rows: Rows = {}
    print(f"\nPeak memory of a pass with gradient\n  {'case':<58}{'MiB':>8}{'CPU s':>9}")
    for classes, specific, name, memory in cases[: form.peaks]:
        kind = "class-specific" if specific else "shared"
        label = f"C = {classes}, {kind}, {name}" + (f", within {memory} GiB" if memory else "")
        case = (form.model, classes, form.length, specific, name, memory)
        rows[label] = peak_in_new_process("benchmarks.speed.text_tower:peak_case", *case)
        print(f"  {label:<58}{rows[label]['peak_mib']:>8.0f}{rows[label]['cpu_s']:>9.2f}", flush=True)
    return rows


def form_of(parser: argparse.ArgumentParser, arguments: list[str] | None) -> Form:
    """Return the form that the command line asks for; print which one, if it is reduced."""
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="fewer classes, under 90 seconds, writes nothing")
    size.add_argument("--tiny", action="store_true", help="a tiny model, to see that the script runs")
    given = parser.parse_args(arguments)
    form = QUICK if given.quick else TINY if given.tiny else FULL
    if form is not FULL:
        print(f"Reduced: {form.classes} classes, model {form.model}; nothing is written.")
    return form


def main(arguments: list[str] | None = None) -> None:
    """Compare, time and measure the memory of all variants; the full form also writes the record."""
    form = form_of(argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0]), arguments)
    torch.set_num_threads(1)
    model, names = text_model(form.model), class_names(form.classes)
    parts: dict[str, Rows] = {}
    for specific in (False, True):
        kind = "class-specific" if specific else "shared"
        passes = {
            variant: text_pass(model, names, form.length, specific, variant)
            for variant in ("plain", "plain cut", *kernels())
        }
        parts[f"{kind}, agreement"] = agreement(passes)
        for variant, row in parts[f"{kind}, agreement"].items():
            features, gradient = row["features"], row["gradient"]
            print(f"  {variant:<12} differs by {features:.1e} (features), {gradient:.1e} (gradient)")
        parts[kind] = interleaved(passes, form.rounds, clock="cpu", warm=False)
        table(
            f"Text pass with gradient, {form.classes} classes, {kind} context of {form.length}", parts[kind]
        )
    parts["memory"] = memory_rows(form, kernels())
    if form is FULL:
        record(
            "text_tower", f"Text pass with gradient, {form.model}, one thread, ratios of CPU time", **parts
        )


if __name__ == "__main__":
    main()
