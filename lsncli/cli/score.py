"""``lsn score``: which of these images does not belong?"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from lsncli.app.workspace import Workspace
from lsncli.cli import options
from lsncli.console import progress, say
from lsncli.errors import TooManyFailures
from lsncli.report.render import Column, render

COLUMNS = [
    Column("path", "Path", wide=True),
    Column("predicted", "Predicted"),
    Column("score", "Score", digits=6),
    Column("threshold", "Threshold", digits=6),
    Column("is_ood", "OOD"),
    Column("error", "Unreadable because", wide=True),
]


def score(
    paths: Annotated[list[Path], typer.Argument(help="Images, folders, lists or tars.", metavar="PATH")],
    only_ood: Annotated[bool, typer.Option("--only-ood", help="Show only OOD images.")] = False,
    batch_size: options.BatchSize = 0,
    workers: options.Workers = 0,
    max_failure_rate: options.MaxFailureRate = 0.05,
    work: options.WorkFolder = options.DEFAULT_WORK,
    pretrained: options.Pretrained = "",
    device: options.Device = "auto",
    format: options.Format = "table",
    output: options.Output = None,
    quiet: options.Quiet = False,
) -> None:
    """Score images with the workspace's detector: path, predicted class, score, threshold, is_ood.

    An image is OOD if its score is below the threshold. Unreadable images are listed with the reason.
    """
    from lsncli.app.detect import Verdict, detect
    from lsncli.artefacts.detector import load_detector
    from lsncli.backbones import load_again
    from lsncli.device import pick_device
    from lsncli.images.sources import check_not_empty, list_images

    place = Workspace(work)
    detector = load_detector(place.detector)
    listing = list_images(paths)
    check_not_empty(listing, ", ".join(str(path) for path in paths))
    backbone = load_again(detector.fingerprint, pretrained=pretrained, device=device, what="prompts")
    counts: Counter[str] = Counter()

    def rows() -> Iterator[dict[str, Any]]:
        stream = detect(
            listing,
            detector,
            backbone,
            batch_size=options.images_at_once(batch_size, device),
            workers=options.threads(workers),
            device=str(pick_device(device)),
        )
        with progress("images", len(listing.items), quiet=quiet) as tick:
            for done, found in stream:
                for one in found:
                    if isinstance(one, Verdict):
                        counts["ood" if one.is_ood else "id"] += 1
                        if one.is_ood or not only_ood:
                            yield {**vars(one), "error": None}
                    else:
                        counts["failed"] += 1
                        yield {"path": one.key, "error": one.reason}
                tick(done)

    render(rows(), COLUMNS, format, output)
    total = counts.total()
    say(
        f"{total} image{'' if total == 1 else 's'}: {counts['id']} ID, {counts['ood']} OOD, "
        f"{counts['failed']} unreadable "
        f"({detector.label} on {len(detector.head.classes)} classes with {detector.fingerprint.model}; "
        f"gamma {detector.threshold.gamma:.6f} for a TPR of {detector.threshold.target_tpr:.0%}).",
        quiet=quiet,
    )
    if listing.ignored:
        say(f"Passed over, without an image name: {listing.ignored}.", quiet=quiet)
    if counts["failed"] > max_failure_rate * total:
        raise TooManyFailures(
            f"{counts['failed']} of {total} images are unreadable, more than --max-failure-rate "
            f"{max_failure_rate:.0%}.",
            "All others were scored.",
        )
