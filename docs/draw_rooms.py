"""Draw the rooms of the package into architecture.md: which imports which, without what follows from others.

python docs/draw_rooms.py
"""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"
BLOCK = re.compile(r"```mermaid\n.*?```\n", re.DOTALL)


def imports() -> dict[str, list[str]]:
    """The rooms (folders of the package, and its API) that each room imports."""
    package = ROOT / "lsncli"
    rooms = {path.parent.name for path in package.glob("*/__init__.py")} | {"api"}
    found: dict[str, set[str]] = {room: set() for room in rooms}
    for path in package.rglob("*.py"):
        own = path.relative_to(package).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if own in rooms and isinstance(node, ast.ImportFrom) and node.module:
                names = [f"{node.module}.{alias.name}".split(".") for alias in node.names]
                found[own] |= {parts[1] for parts in names if parts[0] == "lsncli"} & rooms - {own}
    return {room: sorted(found[room]) for room in sorted(found)}


def drawing() -> str:
    """A diagram in Mermaid's language, highest rooms first."""
    direct = imports()
    reached: dict[str, set[str]] = {}
    for room in TopologicalSorter(direct).static_order():  # lowest first
        reached[room] = set(direct[room]).union(*(reached[each] for each in direct[room]))
    lines = []
    for room in reversed(list(reached)):
        behind = set().union(*(reached[each] for each in direct[room]))
        lines += [f"    {room} --> {each}" for each in sorted(set(direct[room]) - behind)]
    return "\n".join(["```mermaid", "graph TD", *lines, "```", ""])


if __name__ == "__main__":
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(BLOCK.sub(lambda _: drawing(), text), encoding="utf-8")
