"""The first verdict: seconds of ``lsn score ONE.jpg`` by part, and one image in a process that is warm.

    python -m benchmarks.speed.first_verdict [--images DIR] [--quick | --tiny]

The detector is a zero-shot one, whose text features are stored in it. Models: the mini model, and ViT-B-32
with random weights in a checkpoint file. The command runs in a new process each time, with all threads. A
process of the same kind, with timers around its parts, says where its CPU seconds go; timers cost next to
nothing, but modules are imported in another order. One image in memory takes preprocessing and a forward
pass; ``Detector.score`` is compared with these two alone, in turns. Only the full form writes
results/first_verdict.json.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.speed.timing import cpu_seconds, interleaved

CLASSES = ["tench", "English springer", "cassette player", "chain saw", "church", "golf ball", "parachute"]
GOAL = 1 / 1.3
"""``Detector.score`` of one image takes at most 1.3 times the forward pass."""


@dataclass(frozen=True)
class Form:
    """The size of a run: models, rounds of the command, rounds of one image in a warm process."""

    models: tuple[str, ...]
    rounds: int
    warm_rounds: int


FULL = Form(("mini", "ViT-B-32"), 5, 50)
QUICK = Form(("mini", "ViT-B-32"), 3, 20)
SECTION = Form(("mini", "ViT-B-32"), 2, 10)
"""For ``benchmarks.all``."""
TINY = Form(("mini",), 1, 1)


class Parts:
    """The CPU seconds of the parts of this process, from its start."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._before = 0.0

    def end(self, part: str) -> None:
        """End a part that follows the last one."""
        now = time.process_time()
        self.seconds[part] = now - self._before
        self._before = now

    @contextmanager
    def inside(self, part: str) -> Iterator[None]:
        """Time a block; what it takes does not count for the part around it."""
        began = time.process_time()
        outer = self._before
        self._before = began
        try:
            yield
        finally:
            now = time.process_time()
            self.seconds[part] = self.seconds.get(part, 0.0) + now - self._before
            self._before = outer + now - began

    def around(self, owner: Any, name: str, part: str) -> None:
        """Time every call of the function ``name`` of a module or a class as ``part``."""
        function = getattr(owner, name)

        def timed(*args: Any, **options: Any) -> Any:
            with self.inside(part):
                return function(*args, **options)

        setattr(owner, name, timed)


def instrumented(arguments: list[str]) -> dict[str, float]:
    """Run ``lsn`` with ``arguments`` in this process; return the CPU seconds of its parts."""
    parts = Parts()
    from lsncli.cli import app

    parts.end("Python and the command line")
    import torch  # noqa: F401

    parts.end("import torch")
    from lsncli.backbones.loading import ensure_torchvision

    ensure_torchvision()
    import open_clip

    parts.end("import torchvision, timm and open_clip")
    import lsncli.detection.zero_shot  # noqa: F401
    from lsncli.backbones import openclip
    from lsncli.detection import detect

    parts.end("import lsn's own modules")
    parts.around(open_clip, "create_model_and_transforms", "create the model and load its weights")
    parts.around(open_clip, "get_tokenizer", "make the tokenizer")
    parts.around(openclip, "weights_digest", "fingerprint: sha256 of all weights")
    parts.around(openclip.OpenClip, "text_tower", "make the text tower")
    parts.around(openclip.OpenClip, "encode", "encode the image")
    stream = detect.encode_stream

    def timed_stream(*args: Any, **options: Any) -> Iterator[Any]:
        with parts.inside("read and decode the image, threads"):
            chunks = list(stream(*args, **options))
        yield from chunks

    detect.encode_stream = timed_stream  # type: ignore[assignment]
    try:
        app.main(arguments)
    except SystemExit as stop:
        if stop.code:
            raise
    parts.end("score, print, and all else")
    return parts.seconds


def run_command(arguments: list[str]) -> tuple[float, float]:
    """Return the wall and CPU seconds of ``lsn`` in a new process."""
    began, used = time.perf_counter(), cpu_seconds()
    subprocess.run(
        [sys.executable, "-m", "lsncli", *arguments], check=True, capture_output=True, env=_environment()
    )
    return time.perf_counter() - began, cpu_seconds() - used


def run_parts(arguments: list[str]) -> dict[str, float]:
    """Return the CPU seconds of the parts of ``lsn`` in a new process."""
    code = f"""
import json, sys
from benchmarks.speed.first_verdict import instrumented
seconds = instrumented({arguments!r})
print(json.dumps(seconds), file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env=_environment()
    )
    seconds: dict[str, float] = json.loads(done.stderr.splitlines()[-1])
    return seconds


def _environment() -> dict[str, str]:
    root = str(Path(__file__).parents[2])
    paths = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    return {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"} | {
        "PYTHONPATH": paths
    }


def one_image(detector: Any, image: Any, rounds: int) -> dict[str, dict[str, float]]:
    """Time ``Detector.score`` of one image against preprocessing and forward pass alone, on one thread.

    In CPU time: on busy cores, threads that share so little work mostly wait for each other.
    """
    import torch

    backbone, threads = detector.backbone, torch.get_num_threads()
    pixels = backbone.preprocess(image)[None]
    variants: dict[str, Callable[[], object]] = {
        "forward": lambda: backbone.encode(pixels),
        "preprocessing and forward": lambda: backbone.encode(backbone.preprocess(image)[None]),
        "Detector.score": lambda: detector.score([image]),
    }
    torch.set_num_threads(1)
    try:
        return interleaved(variants, rounds, clock="cpu")
    finally:
        torch.set_num_threads(threads)


def measure(form: Form, folder: Path, images: Path | None) -> dict[str, Any]:
    """Measure every model."""
    from benchmarks.goals import note
    from benchmarks.speed.subjects import photos, sources, with_weights
    from lsncli import Detector
    from lsncli.images.decode import decode
    from lsncli.images.read import read_bytes

    data = read_bytes(photos(sources(images), 1).items[0])
    photo = folder / "photo.jpg"
    photo.write_bytes(data)
    results: dict[str, Any] = {}
    for model in form.models:
        note(f"first verdict: {model}")
        detector = Detector.zero_shot(CLASSES, model=model, pretrained=with_weights(model, folder))
        work = folder / f"work-{model}"
        work.mkdir()
        detector.save(work / "detector.safetensors")
        arguments = ["score", str(photo), "--work", str(work), "--quiet", "--format", "json"]
        parts: list[dict[str, float]] = []
        walls: list[float] = []
        cpus: list[float] = []
        for turn in range(form.rounds + 1):  # the first fills the caches of the disk
            (wall, cpu), found = run_command(arguments), run_parts(arguments)
            if turn:
                walls.append(wall)
                cpus.append(cpu)
                parts.append(found)
        results[model] = {
            "seconds": statistics.median(walls),
            "fastest": min(walls),
            "slowest": max(walls),
            "cpu_seconds": statistics.median(cpus),
            "parts": {name: statistics.median(each[name] for each in parts) for name in parts[0]},
            "one image": one_image(detector, decode(data), form.warm_rounds),
        }
    return results


def rows_of(results: dict[str, Any]) -> list[Any]:
    """Return the figures as rows."""
    from benchmarks.goals import Row, ratio

    rows: list[Row] = []
    for model, result in results.items():
        what, spread = f"lsn score ONE.jpg, {model}", (result["fastest"], result["slowest"])
        rows.append(Row(what, result["seconds"], "s", of="wall time, new process", spread=spread))
        rows.append(Row(f"{what}, CPU", result["cpu_seconds"], "s", of="CPU time, its parts:"))
        rows += [Row(f"    {part}", seconds, "s") for part, seconds in result["parts"].items()]
        alone, both, ours = result["one image"].values()
        of = f"forward alone {1000 * alone['cpu_s']:.1f} ms"
        figures = {name: ours[name] / both["ratio"] for name in ("ratio", "lowest", "highest")}
        rows.append(ratio(f"Detector.score([image]), {model}", figures, GOAL, f"CPU time, one thread; {of}"))
    return rows


def rows(tiny: bool) -> list[Any]:
    """Return the rows of ``benchmarks.all``."""
    images = os.environ.get("LSN_IMAGES")
    with tempfile.TemporaryDirectory() as folder:
        return rows_of(measure(TINY if tiny else SECTION, Path(folder), Path(images) if images else None))


def main(arguments: list[str] | None = None) -> None:
    """Measure and print; the full form also writes the record."""
    from benchmarks.goals import table
    from benchmarks.records import record

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=Path, default=os.environ.get("LSN_IMAGES"), help="the image sets")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="fewer rounds, writes nothing")
    size.add_argument("--tiny", action="store_true", help="the mini model once, to see that the script runs")
    options = parser.parse_args(arguments)
    form = QUICK if options.quick else TINY if options.tiny else FULL
    with tempfile.TemporaryDirectory() as folder:
        results = measure(form, Path(folder), options.images and Path(options.images))
    figures = rows_of(results)
    print(table({"the first verdict": figures}))
    if form is FULL:
        what = "The first verdict: seconds of a new process by part, and one image in a warm one"
        record("first_verdict", what, rows=[asdict(row) for row in figures], **results)


if __name__ == "__main__":
    main()
