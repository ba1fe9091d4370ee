"""Which code a number hangs on: a result of other code is computed again; a comment changes nothing."""

import ast
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from lsncli.app.cache import digest


@cache
def code_of(*names: str) -> str:
    """Digest of the source of packages or modules without comments, docstrings and layout."""
    found: dict[str, str] = {}
    for name in names:
        spec = find_spec(name)
        origin = Path(spec.origin or "") if spec else Path()
        files = sorted(origin.parent.glob("*.py")) if origin.name == "__init__.py" else [origin]
        found |= {f"{name}/{path.name}": _bare(path.read_text(encoding="utf-8")) for path in files}
    return digest(found)


def _bare(text: str) -> str:
    tree = ast.parse(text)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            # A text that stands alone says what something is, and does nothing.
            node.body = [one for one in body if not _says(one)]  # type: ignore[attr-defined]
    return ast.dump(tree)


def _says(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
