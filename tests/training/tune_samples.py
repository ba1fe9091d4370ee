"""A plan to tune the tiny model on a few images."""

from pathlib import Path

from lsncli.images.listing import list_images
from lsncli.training.finetune import TunePlan, plan_tuning
from lsncli.training.finetune_loop import TuneSettings

QUICK = TuneSettings(epochs=4, batch_size=8, rate=1e-3)


def plan(folder: Path, backbone, **given) -> TunePlan:
    return plan_tuning(list_images([folder]), backbone, source=str(folder), **given)
