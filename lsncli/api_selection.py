"""The choice of a method from Python, as ``lsn select`` makes it: ``lsncli.select_method("lsn-work")``."""

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lsncli.api import Detector
from lsncli.backbones import Backbone, load_again
from lsncli.detection.calibrate import make_detector
from lsncli.device import computes, pick_device
from lsncli.methods.workspace import Workspace
from lsncli.report.selection_table import about_prompts, columns, conclusion, rows
from lsncli.selection import select as use
from lsncli.selection.choose import Choice, Verdict
from lsncli.selection.prompts import missing_prompts, other_prompts
from lsncli.store import check_exists
from lsncli.store.reader import read_fingerprint
from lsncli.training.prompts import train_prompts

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True, eq=False, repr=False)
class MethodSelection:
    """A method that was chosen without OOD images, and the evidence; ``select_method`` makes it.

    As a text, it is what ``lsn select`` says below its table.
    """

    method: str
    """The chosen method: the default unless ``verdict`` is "chosen"."""
    verdict: Verdict
    """"chosen", or why the default is kept: "no difference", "no better" or "chance"."""
    default: str
    """The method that is kept without evidence for another: the first that was compared."""
    runner_up: str
    """The best of the other methods that were considered."""
    compared: "DataFrame"
    """A row for each method, from the best, and the columns of ``lsn select --format csv``, in percent."""
    failed: Mapping[str, str]
    """The methods that could not be compared, with the reason."""
    _selection: use.Selection
    _device: str
    _pretrained: str

    def __repr__(self) -> str:
        return f"<MethodSelection {self.method} of {len(self.compared)} methods: {self.verdict}>"

    def __str__(self) -> str:
        choice = self._selection.choice
        return " ".join(filter(None, (conclusion(choice), about_prompts(choice))))

    def calibrate(self, target_tpr: float = 0.95, *, per_class: bool = False) -> Detector:
        """Return a detector of the chosen method, and write it to the workspace as ``lsn select`` does.

        Its threshold keeps ``target_tpr`` of held-out images that the choice did not read; with ``per_class``
        each predicted class has one. Prompts that the method takes and the workspace lacks are learned. Too
        few held-out images, and prompts of the workspace that are not learned as the compared ones, are a
        UserWarning.
        """
        plan = self._selection.plan
        heads, method, split = plan.scope.heads, plan.methods[self.method], plan.scope.split.name
        if other := other_prompts(heads.work, method):
            warnings.warn(other, UserWarning, stacklevel=2)
        for data, settings in missing_prompts(heads.work, method, split):
            train_prompts(heads.work, heads.backbone, data, settings)
        stored = make_detector(
            heads.work,
            method,
            split_name=split,
            target_tpr=target_tpr,
            per_class=per_class,
            model=lambda: heads.backbone,
            device=plan.scope.device,
        )
        if stored.doubt:
            warnings.warn(stored.doubt, UserWarning, stacklevel=2)
        return Detector(stored, self._device, self._pretrained)


def select_method(
    workspace: str | os.PathLike[str],
    methods: Sequence[str] = (),
    *,
    split: str = "train",
    foreign: Sequence[str] = (),
    prompts: bool | None = None,
    budget: float | None = None,
    seed: int = 0,
    device: str = "auto",
    pretrained: str = "",
) -> MethodSelection:
    """Choose a method for the images of a workspace without OOD images, as ``lsn select --dry-run`` does.

    ``workspace`` is a folder that ``lsn extract`` made. The first of ``methods`` is kept without evidence for
    another; without any, MCM is compared with 20 more. ``foreign`` names splits of images that are of no
    class. ``prompts`` compares learned prompts, too (None: if the workspace has some), and methods that take
    more than ``budget`` minutes are left out. No detector is made; ``calibrate`` of the result makes it.

    Raises LsnError for a split of fewer than six classes or with too few images, UsageError for a method that
    cannot be compared.
    """
    work = Workspace(Path(workspace))
    check_exists(work.features)
    computes()

    def load() -> Backbone:
        return load_again(read_fingerprint(work.features), pretrained=pretrained, device=device)

    seconds = None if budget is None else 60 * budget
    planned = use.plan_selection(
        work,
        names_of(methods),
        split_name=split,
        foreign=names_of(foreign),
        prompts=prompts,
        model=load,
        device=str(pick_device(device)),
        seed=seed,
    )
    plan, learned = use.learn_for(planned, budget=seconds)
    selection = use.select(plan, learned, budget=seconds)
    late = dict.fromkeys(
        planned.methods.keys() - plan.methods.keys(), "Its prompts take more than the budget."
    )
    choice = selection.choice
    return MethodSelection(
        choice.method,
        choice.verdict,
        choice.default,
        choice.runner_up,
        _frame(choice),
        selection.failed | late,
        selection,
        device,
        pretrained,
    )


def names_of(names: str | Sequence[str]) -> Sequence[str]:
    """Return names as a list; a single one may come without."""
    return [names] if isinstance(names, str) else names


def _frame(choice: Choice) -> "DataFrame":
    """Return the comparison as a table; the fractions of ``rows`` become percent."""
    from pandas import DataFrame

    names = [column.key for column in columns(choice, people=False)]
    frame = DataFrame(rows(choice, people=False), columns=names)
    numbers = frame.select_dtypes("number").columns
    frame[numbers] = 100 * frame[numbers]
    return frame
