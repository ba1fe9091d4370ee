"""A page of the copies of images, side by side: static HTML without a script."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape

from lsncli.console import printable
from lsncli.evaluation.duplicate_groups import Copy, Group, Place
from lsncli.report.page.build import STYLES, filled, read_part
from lsncli.report.page.data import jpeg_url

GROUPS = 1000
"""Most groups on a page; all are counted."""
PAIR = 2
"""Most copies of a group that shares a line of the page with another."""


def duplicates_page(
    groups: Sequence[Group], pictures: Mapping[Place, bytes], texts: Sequence[str], notes: Sequence[str] = ()
) -> str:
    """Return the page: ``texts`` under its headline, ``notes`` as warnings, and groups with ``pictures``.

    Pictures are JPEGs by split and row.
    """
    style = "\n".join(read_part(name) for name in (*STYLES, "duplicates.css"))
    return filled("duplicates.html", style, BODY="\n".join(_body(groups, pictures, texts, notes)))


def _body(
    groups: Sequence[Group], pictures: Mapping[Place, bytes], texts: Sequence[str], notes: Sequence[str]
) -> Iterator[str]:
    yield '<section class="summary"><h1>Copies of images</h1>'
    yield from (f'<p class="lead">{_with_code(text)}</p>' for text in texts)
    yield from (f'<p class="note">{_text(note)}</p>' for note in notes)
    if len(groups) > GROUPS:
        yield f'<p class="note">The first {GROUPS:,} groups are shown; the table has all of them.</p>'
    yield '</section><div class="groups">'
    for number, group in enumerate(groups[:GROUPS], start=1):
        badges = ["classes differ"] * group.conflict + ["in several splits"] * group.across
        marks = "".join(f'<span class="badge">{badge}</span>' for badge in badges)
        size = " many" if len(group.copies) > PAIR else ""
        yield f'<section class="group{size}"><h2>Group {number}{marks}</h2><ul class="copies">'
        for copy in group.copies:
            yield from _copy(copy, pictures.get((copy.split, copy.row)))
        yield "</ul></section>"
    yield "</div>"


def _copy(copy: Copy, picture: bytes | None) -> Iterator[str]:
    shown = f'<img src="{jpeg_url(picture)}" alt="">' if picture is not None else "no picture"
    advice = '<b class="out">leave out</b>' if copy.leave_out else '<b class="in">keep</b>'
    measure = "identical features" if copy.exact else f"cosine {copy.cosine:.4f}"
    yield f'<li><div class="frame">{shown}</div><p class="name">{_text(copy.class_name or "no class")}</p>'
    yield f"<p>{_text(copy.key)}</p><p>{_text(copy.split)} · {measure} · {advice}</p></li>"


def _text(text: str) -> str:
    """Return untrusted text as HTML that shows it."""
    return escape(printable(text))


def _with_code(text: str) -> str:
    """Return text as HTML in which the parts between backticks are code."""
    parts = _text(text).split("`")
    return "".join(f"<code>{part}</code>" if at % 2 else part for at, part in enumerate(parts))
