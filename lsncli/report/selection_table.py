"""A selection as a table, and in words: what was chosen, the evidence, and whether learned prompts pay."""

from lsncli.report.formats import Column
from lsncli.selection.choose import WORDS, Choice, Compared, Margin, margin_between
from lsncli.selection.methods import PROMPTS

RESULTS = {
    "chosen": "chosen",
    "kept": "kept",
    "best": "best",
    "runner-up": "second best",
    "default": "default",
    "out": "out",
}
"""How people see the result of a method."""


def columns(choice: Choice, people: bool) -> list[Column]:
    """Return the columns of the comparison: for people means and margins, for programs every axis."""
    first = choice.compared[0]
    kinds = [
        Column(f"near_{kind}", f"Near, {kind}", digits=2, percent=True, detail=True) for kind in first.near
    ]
    far = [Column(key_of(name), f"Far, {name}", digits=2, percent=True, detail=True) for name in first.far]
    far_mean = [Column("far", "Far", digits=2, percent=True)] if first.far else []
    over = f"Over {choice.default}"
    margin = (
        [Column("margin", over), Column("interval", "90 %")]
        if people
        else [Column("over_default", ""), Column("low", ""), Column("high", "")]
    )
    return [
        Column("method", "Method", identifies=True),
        Column("near", "Near", digits=2, percent=True),
        *kinds,
        *far_mean,
        *far,
        Column("mean", "Mean", digits=2, percent=True),
        *margin,
        Column("result", "", words=RESULTS),
        Column("why_not", "Why out", wide=True, detail=True),
    ]


def key_of(far: str) -> str:
    """Return the key of the column of words or of a foreign split."""
    return "far_words" if far == WORDS else f"foreign_{far}"


def rows(choice: Choice, people: bool) -> list[dict[str, object]]:
    """Return a row per method, from the best; ``margin`` and ``interval`` are text in percent, for people."""
    return [_row(each, choice, people) for each in choice.compared]


def _row(each: Compared, choice: Choice, people: bool) -> dict[str, object]:
    over = each.over_default
    second = "best" if people and choice.margin.value < 0 else "runner-up"
    first = "kept" if people and choice.verdict != "chosen" else "chosen"
    results = {choice.default: "default", choice.runner_up: second, choice.method: first}
    row: dict[str, object] = {
        "method": each.method,
        "near": sum(each.near.values()) / len(each.near),
        "far": each.far_mean,
        "mean": each.mean,
        "result": results.get(each.method, "out" if people and each.why_not else None),
        "why_not": each.why_not or None,
        **{f"near_{kind}": value for kind, value in each.near.items()},
        **{key_of(name): value for name, value in each.far.items()},
    }
    if not people:
        return row | {"over_default": over.value, "low": over.low, "high": over.high}
    if each.method == choice.default:
        return row
    value, low, high = (f"{number:+6.2f}" for number in _in_points(over))
    return row | {"margin": value, "interval": f"{low} to {high}"}


def conclusion(choice: Choice) -> str:
    """Return what was chosen, and the evidence, in sentences."""
    if choice.verdict == "chance":
        return (
            "No method tells the images of classes that are left out from the others better than chance: do "
            f"the labels fit the images? Keeping {choice.default}."
        )
    if choice.verdict == "no better":
        return f"No method that was considered is better than {choice.default}. Keeping it."
    if choice.verdict == "no difference":
        best = next(each for each in choice.compared if not each.why_not)
        gain = _points(best.over_default)
        return (
            f"No evidence that it matters: the best, {best.method}, is {gain} of AUROC above "
            f"{choice.default} (90% interval for {len(choice.compared)} methods together). "
            f"Keeping {choice.default}."
        )
    gain = _points(choice.row(choice.method).over_default)
    chosen = (
        f"Chosen: {choice.method}, {gain} of AUROC above {choice.default} (90% interval for "
        f"{len(choice.compared)} methods together)."
    )
    margin = choice.margin
    if margin.value < 0:
        above = _points(Margin(-margin.value, -margin.high, -margin.low))
        return (
            f"{chosen} It is the simplest within one standard error of the best, {choice.runner_up}, which "
            f"is {above} above it."
        )
    if choice.runner_up == choice.default:
        return chosen
    return f"{chosen} Second best: {choice.runner_up}, {_points(margin)} behind."


def about_prompts(choice: Choice) -> str:
    """Return whether learned prompts pay: positive ones against none, and negative ones against those."""
    negative = choice.best_of(["lsn"])
    positive = choice.best_of([name for name in PROMPTS if name != "lsn"])
    none = choice.best_of([each.method for each in choice.compared if each.method not in PROMPTS])
    pairs = [
        ("Learned prompts", positive, none, "the best without any"),
        ("Negative prompts", negative, positive, "the best of positive ones"),
    ]
    texts = []
    for title, first, second, what in pairs:
        if first is not None and second is not None:
            below = first.mean < second.mean
            above, under = (second, first) if below else (first, second)
            points = _points(margin_between(above.by_class, under.by_class))
            side = "below" if below else "above"
            texts.append(f"{title}: {first.method} is {points} {side} {second.method}, {what}.")
    return f"{' '.join(texts)} Each 90% interval is of its pair alone." if texts else ""


def _points(margin: Margin) -> str:
    value, low, high = _in_points(margin)
    return f"{value:.2f} points ({low:.2f} to {high:.2f})"


def _in_points(margin: Margin) -> tuple[float, float, float]:
    """Return the difference and its interval in points, as shown, without a negative zero."""
    value, low, high = (round(100 * each, 2) + 0.0 for each in (margin.value, margin.low, margin.high))
    return value, low, high
