"""``lsn train-head --kind dualcoop``: DualCoOp's pair of prompts."""

from lsncli.cli.heads import Asked, show
from lsncli.cli.interrupted import interruptible
from lsncli.cli.training import kept_epochs, workspace_backbone
from lsncli.console import progress, say
from lsncli.errors import UsageError
from lsncli.methods.workspace import Workspace


def dualcoop(asked: Asked) -> None:
    """Learn with a progress bar and show one row."""
    from lsncli.prompts.dualcoop import dual_settings
    from lsncli.prompts.learner import steps
    from lsncli.training import prompts as use

    given = {"SOURCE": asked.sources, "--tune": asked.tune, "--c": asked.c, "--loss": asked.settings["loss"]}
    given |= {f"--{name}": value for name, value in asked.columns.options().items()}
    for name, value in (given | {"--classes": asked.classes}).items():
        if value:
            raise UsageError(
                f"--kind dualcoop learns prompts from stored features: {name} is not for it.",
                f"Leave {name} out.",
            )
    settings = dual_settings(**{name: value for name, value in asked.settings.items() if name != "loss"})
    place = Workspace(asked.work)
    plan = use.plan_dual(place, asked.split)
    backbone = workspace_backbone(place, asked.pretrained, asked.device)
    total = steps(len(plan.rows.train), settings)
    kept = kept_epochs(place.checkpoint(use.KIND))
    with interruptible(kept), progress("DualCoOp", total, quiet=asked.quiet) as tick:
        done = use.train_dual(
            place,
            backbone,
            plan,
            settings,
            resume=asked.resume,
            tick=tick,
            remark=lambda text: say(text, quiet=asked.quiet),
        )
    show(done, asked)
    say(f"Wrote {done.path}. Next: lsn calibrate --method dualcoop", quiet=asked.quiet)
