"""``lsn train-head --tune``: read the images, tune, and say how to go on with the tower that comes of it."""

import shlex

from lsncli.cli import options
from lsncli.cli.heads import Asked, show
from lsncli.cli.interrupted import interruptible
from lsncli.cli.sources import list_sources
from lsncli.cli.training import kept_epochs
from lsncli.console import printable, progress, remarks, say
from lsncli.errors import UsageError
from lsncli.methods.workspace import Workspace


def tuned(asked: Asked, tune: str) -> None:
    """Fine-tune the image tower and write it with its linear head. On Ctrl-C, say how to go on."""
    from lsncli.backbones import DEFAULT_MODEL, load_backbone
    from lsncli.device import pick_device
    from lsncli.images.listing import named
    from lsncli.training.finetune import KIND, check_place, plan_tuning, tune_tower
    from lsncli.training.finetune_loop import tune_settings
    from lsncli.training.finetune_losses import LOSSES

    if not asked.sources:
        raise UsageError(
            "--tune needs images.", "Write lsn train-head FOLDER --tune ...; one folder per class."
        )
    place, settings = Workspace(asked.work), tune_settings(tune=tune, **asked.settings)
    check_place(place)
    listing = list_sources(asked.sources, asked.columns, quiet=asked.quiet)
    backbone = load_backbone(asked.model or DEFAULT_MODEL, pretrained=asked.pretrained, device=asked.device)
    encoding = {
        "batch_size": options.images_at_once(0, asked.device),
        "workers": options.threads(asked.workers),
    }
    with progress("reading images", len(listing.items), quiet=asked.quiet) as tick:
        plan = plan_tuning(
            listing,
            backbone,
            source=printable(named(asked.sources)),
            split_name=asked.split,
            names_file=asked.classes,
            max_failure_rate=asked.max_failure_rate,
            tick=tick,
            remark=remarks(asked.quiet),
            **encoding,
        )
    if plan.split.failures:
        first = plan.split.failures[0]
        say(
            f"{len(plan.split.failures)} images failed, such as {printable(first.key)}: {first.reason}",
            quiet=asked.quiet,
        )
    total = settings.epochs * len(plan.training)
    kept = kept_epochs(place.checkpoint(KIND))
    with interruptible(kept), progress(f"tuning {tune}", total, quiet=asked.quiet) as tick:
        done = tune_tower(
            place,
            plan,
            settings,
            pick_device(asked.device),
            c=asked.c,
            resume=asked.resume,
            tick=tick,
            remark=remarks(asked.quiet),
            **encoding,
        )
    show(done.trained, asked, tuned=tune)
    again = [
        "lsn",
        "extract",
        *map(str, asked.sources),
        "--model",
        done.model,
        "--pretrained",
        str(done.tower),
    ]
    again += [] if asked.split == "train" else ["--split", asked.split]
    again += [] if asked.classes is None else ["--classes", str(asked.classes)]
    again += [word for name, value in asked.columns.options().items() for word in (f"--{name}", value)]
    again += ["--work", str(asked.work)]
    method = f"{LOSSES[settings.loss].TESTED_BY}:linear"
    say(
        f"Wrote {done.tower} and {done.trained.path}. The tuned tower is a model of its own; next:",
        quiet=asked.quiet,
    )
    say(f"  {shlex.join(again)}", quiet=asked.quiet)
    say(
        f"  {shlex.join(['lsn', 'calibrate', '--method', method, '--work', str(asked.work)])}",
        quiet=asked.quiet,
    )
