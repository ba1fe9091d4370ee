"""Score images with a calibrated detector: which of these does not belong?"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lsncli.app.binding import head_from
from lsncli.app.encode import encode_stream
from lsncli.artefacts.detector import Detector
from lsncli.backbones import Backbone
from lsncli.errors import LsnError
from lsncli.images.sources import ImageItem, Listing
from lsncli.scores import load_score
from lsncli.scores.common import predict
from lsncli.threshold import is_ood
from lsncli.types import Failure


@dataclass(frozen=True)
class Verdict:
    """One image: its most likely ID class, its score (higher = more ID) and whether score < gamma."""

    path: str
    predicted: str
    score: float
    threshold: float
    is_ood: bool


def detect(
    listing: Listing,
    detector: Detector,
    backbone: Backbone,
    *,
    batch_size: int,
    workers: int,
    device: str = "cpu",
) -> Iterator[tuple[int, Sequence[Verdict | Failure]]]:
    """Score the listed images batch by batch: (images done, their verdicts and failures in order).

    What could not even be listed (a loop of links, an unreadable folder) comes first. The text tower of
    ``backbone`` works only for prompts that depend on the image. ``device`` is where scores that are worth it
    compute.
    """
    if listing.problems:
        yield 0, listing.problems
    head = head_from(detector.head, lambda: backbone)
    try:
        scorer = load_score(detector.method, **detector.settings).scorer(head, detector.learned, device)
    except KeyError as missing:
        raise LsnError(
            f"The detector is damaged: it lacks {missing}, which the score '{detector.method}' learned.",
            f"Make it again with `lsn calibrate --method {detector.method}`.",
        ) from missing
    gamma = detector.threshold.gamma
    shown = {item.key: shown_path(item) for item in listing.items}
    for batch in encode_stream(listing.items, backbone, batch_size=batch_size, workers=workers):
        found: dict[str, Verdict | Failure] = {
            failure.key: Failure(shown[failure.key], failure.reason) for failure in batch.failures
        }
        if len(batch.keys):
            scores = scorer(batch.features)
            best = predict(head, batch.features)
            for key, score, label, outside in zip(
                batch.keys, scores, best, is_ood(scores, gamma), strict=True
            ):
                name = head.classes[int(label)]
                found[key] = Verdict(shown[key], name, float(score), gamma, bool(outside))
        order = [item.key for item in listing.items[batch.start : batch.stop]]
        yield batch.stop - batch.start, [found[key] for key in order]


def shown_path(item: ImageItem) -> str:
    """The image's own path, or for a member of a tar the tar's path and the member's name."""
    return item.path if item.offset is None else f"{item.path}:{item.key}"
