"""Draw the rooms of the package into architecture.md: which imports which, without what follows from others.

python docs/draw_rooms.py. In Markdown the picture is a text that GitHub draws; on the site it is an SVG.
"""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"
BLOCK = re.compile(r"```mermaid\n.*?```\n", re.DOTALL)


def imports() -> dict[str, list[str]]:
    """The rooms (folders of the package, and its API, two modules) that each room imports."""
    package = ROOT / "lsncli"
    rooms = {path.parent.name for path in package.glob("*/__init__.py")} | {"api"}
    found: dict[str, set[str]] = {room: set() for room in rooms}
    for path in package.rglob("*.py"):
        own = path.relative_to(package).parts[0].removesuffix(".py").removesuffix("_selection")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if own in rooms and isinstance(node, ast.ImportFrom) and node.module:
                names = [f"{node.module}.{alias.name}".split(".") for alias in node.names]
                found[own] |= {parts[1] for parts in names if parts[0] == "lsncli"} & rooms - {own}
    return {room: sorted(found[room]) for room in sorted(found)}


def arrows() -> list[tuple[str, str]]:
    """Each import that does not follow from others, highest rooms first."""
    direct = imports()
    reached: dict[str, set[str]] = {}
    for room in TopologicalSorter(direct).static_order():  # lowest first
        reached[room] = set(direct[room]).union(*(reached[each] for each in direct[room]))
    found = []
    for room in reversed(list(reached)):
        behind = set().union(*(reached[each] for each in direct[room]))
        found += [(room, each) for each in sorted(set(direct[room]) - behind)]
    return found


def drawing() -> str:
    """A diagram in Mermaid's language."""
    lines = [f"    {room} --> {each}" for room, each in arrows()]
    return "\n".join(["```mermaid", "graph TD", *lines, "```", ""])


WIDTH, HEIGHT, ACROSS, DOWN = 104, 30, 128, 72
"""Of a room, and from one room to the next."""


def picture() -> str:
    """The same diagram as an SVG that needs no script: a room lies above all rooms that it imports."""
    pairs = arrows()
    rooms = list(dict.fromkeys(room for pair in pairs for room in pair))
    level = dict.fromkeys(rooms, 0)
    for _ in rooms:
        for room, below in pairs:
            level[below] = max(level[below], level[room] + 1)
    rows = [[room for room in rooms if level[room] == n] for n in range(max(level.values()) + 1)]
    middle = max(map(len, rows)) * ACROSS / 2
    place: dict[str, tuple[float, float]] = {}
    for n, row in enumerate(rows):
        above = {room: [place[up][0] for up, down in pairs if down == room] for room in row}
        row = sorted(row, key=lambda room: sum(above[room]) / len(above[room]) if above[room] else middle)
        start = middle - ACROSS * (len(row) - 1) / 2
        place |= {room: (start + ACROSS * k, HEIGHT + DOWN * n) for k, room in enumerate(row)}
    parts = []
    for room, below in pairs:
        (x1, y1), (x2, y2) = place[room], place[below]
        y1, y2 = y1 + HEIGHT / 2, y2 - HEIGHT / 2 - 5
        bend = (y2 - y1) / 2
        parts.append(
            f'<path d="M{x1:g} {y1:g}C{x1:g} {y1 + bend:g} {x2:g} {y2 - bend:g} {x2:g} {y2:g}" '
            'fill="none" stroke="currentColor" opacity=".45" marker-end="url(#tip)"/>'
        )
    for room, (x, y) in place.items():
        parts.append(
            f'<rect x="{x - WIDTH / 2:g}" y="{y - HEIGHT / 2:g}" width="{WIDTH}" height="{HEIGHT}" rx="5" '
            'fill="var(--md-code-bg-color)" stroke="currentColor"/>'
            f'<text x="{x:g}" y="{y + 5:g}" text-anchor="middle" fill="currentColor" font-size="14">'
            f"{room}</text>"
        )
    size = f"0 0 {2 * middle:g} {DOWN * (len(rows) - 1) + 2 * HEIGHT}"
    tip = '<marker id="tip" orient="auto" markerWidth="7" markerHeight="7" refX="2" refY="3">'
    tip += '<path d="M0 0L6 3L0 6z" fill="currentColor"/></marker>'
    inside = "".join(parts)
    return (
        f'<div class="picture"><svg xmlns="http://www.w3.org/2000/svg" viewBox="{size}" role="img" '
        f'aria-label="Rooms and their imports"><defs>{tip}</defs>{inside}</svg></div>\n'
    )


if __name__ == "__main__":
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(BLOCK.sub(lambda _: drawing(), text), encoding="utf-8")
