"""Figures 9 to 12: for each class, how many OOD images choose "a photo of a" or "not a photo of a"."""

from lsncli.backbones import with_text
from lsncli.bench.figures.request import FigureResult, Request, describe_costs, extract_sets, figure_paths
from lsncli.bench.suite import Group, TableSpec
from lsncli.bench.suite_workspace import same_backbone
from lsncli.errors import UsageError
from lsncli.evaluation import negation as use
from lsncli.reference.classes import class_list
from lsncli.report import negation_plot
from lsncli.report.formats import Column
from lsncli.store.reader import read_split

SETS = {9: "iNaturalist", 10: "Places", 11: "SUN", 12: "Textures"}
"""The column of the suite's table whose images choose, by figure."""

CLASSES = "imagenet1k"
"""The paper uses every class of ImageNet-1k."""

COLUMNS = [
    Column("set", "Images of", wide=True),
    Column("images", "Images", digits=0),
    Column("classes", "Classes", digits=0),
    Column("yes", '"a photo"', digits=0),
    Column("no", '"not"', digits=0),
    Column("no_share", '"not" %', digits=1, percent=True),
    Column("mostly_no", 'Classes mostly "not"', digits=0),
]


def draw(request: Request, number: int) -> FigureResult:
    """Count and draw the choices of the images of one OOD set for each class name of ImageNet-1k.

    The set is the column ``SETS[number]`` of Table 1 or of ``request.spec``. Raises UsageError if there is no
    such column and LsnError if its images are missing.
    """
    spec = request.table("1")
    group = _group(spec, number)
    suite_work, plan = extract_sets(request, spec, [group.ood])
    ood_set = request.suite.sets[group.ood]
    title = f"Figure {number} on the suite '{request.suite.name}': {ood_set.title}"
    if request.dry:
        return describe_costs(title, [plan])
    store = suite_work.workspace("").features
    split = read_split(store, group.ood)
    names = class_list(CLASSES).names
    tower = with_text(same_backbone(store, suite_work.weights(""), suite_work.device)).text_tower()
    counts = use.count_choices(use.encode_descriptions(tower, names), [use.labelled_features(split, names)])
    png, svg, numbers = figure_paths(request, f"figure{number}")
    for path in (png, svg):
        negation_plot.plot(path, counts, use.YES, use.NO)
    row = {
        "set": ood_set.title,
        "images": counts.images,
        "classes": len(names),
        "yes": int(counts.yes.sum()),
        "no": int(counts.no.sum()),
        "no_share": use.total_shares(counts).no,
        "mostly_no": int((counts.no > counts.yes).sum()),
    }
    notes = [
        'The paper prints no numbers here, and says: CLIP tends to choose "not a photo of a [class]".',
        f"Classes: the {len(names)} names of ImageNet-1k. {request.suite.note.strip()}".strip(),
    ]
    return FigureResult(title, [row], COLUMNS, (png, svg, numbers), notes)


def _group(spec: TableSpec, number: int) -> Group:
    for group in spec.groups:
        if group.name == SETS[number] and group.ood:
            return group
    known = ", ".join(group.name for group in spec.groups)
    raise UsageError(
        f"Figure {number} is about {SETS[number]}, and table {spec.key} has the columns {known}.",
        "`lsn not FOLDER --plot FILE.png` draws the same of any images.",
    )
