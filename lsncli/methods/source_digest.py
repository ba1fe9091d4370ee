"""Digests of the source code that a cached result depends on.

The source is parsed, not run. A definition (function, class or constant of a module) reaches the definitions
that its source names. Annotations count, since they name the classes of objects whose methods are called.
Comments, docstrings, layout and the module of a definition do not count, so that moving a definition changes
no digest. Other libraries count by the names that are imported, not by their versions.
"""

import ast
import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lsncli.errors import LsnError
from lsncli.methods.cache import Cache, digest
from lsncli.registry import added_packages

Definition = Callable[..., Any] | str
"""A function, a class, or the text ``module:name``."""

PACKAGES = ("lsncli", "benchmarks")
"""The packages whose code is followed, in addition to those that add rows to a registry."""

POINTER = re.compile(rf"({'|'.join(PACKAGES)})(\.\w+)*(:\w+)?")
"""A module, or ``module:name`` in a row of a registry."""

Node = tuple[str, str]
"""Module and name of a definition. Without a name: statements that define nothing. Without a module:
``module:name`` of another library."""

DATA_FILE = re.compile(r"[\w-]+\.(json|toml|txt|gz|h5)")


def code_of(*roots: Definition, without: tuple[Definition, ...] = ()) -> str:
    """Return a digest of the source that ``roots`` reach in ``PACKAGES``.

    ``without`` is not followed; its results must be in the key by content. Neither are the cache and the rows
    of a registry, of which the chosen row must be a root. A data file beside a module counts by its bytes if
    reached code names it. Raises LsnError for a module without source.
    """
    texts = reached(*roots, without=without)
    return digest([_bare(_node(root)) for root in roots], sorted(set(texts.values())))


def reached(*roots: Definition, without: tuple[Definition, ...] = ()) -> dict[Node, str]:
    """Return every definition that ``roots`` reach, with a digest of its source and of its neighbours'."""
    ends = frozenset(_node(end) for end in (*without, Cache, digest, code_of))
    return _reached(tuple(_node(root) for root in roots), ends)


@cache
def _reached(starts: tuple[Node, ...], ends: frozenset[Node]) -> dict[Node, str]:
    reached: dict[Node, str] = {}
    todo = list(starts)
    while todo:
        node = todo.pop()
        if node in reached or node in ends:
            continue
        reached[node], neighbours = _neighbours(node, ends)
        todo += neighbours
    return reached


@cache
def _neighbours(node: Node, ends: frozenset[Node]) -> tuple[str, list[Node]]:
    edges = {name: [item for item in nodes if item not in ends] for name, nodes in _edges(node).items()}
    # Each name with the text that it refers to: the same texts under swapped names are different code.
    names = [f"{name}={sorted(map(_bare, nodes))}" for name, nodes in sorted(edges.items())]
    return digest(_bare(node), names), [item for nodes in edges.values() for item in nodes]


def _node(definition: Definition) -> Node:
    if isinstance(definition, str):
        module, _, name = definition.partition(":")
        return module, name
    whole = inspect.unwrap(definition)
    return whole.__module__, whole.__qualname__.partition(".")[0]


@dataclass
class _Text:
    """A statement: its source without imports and docstrings, the names that it reads, its imports."""

    bare: list[str] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    """``name``, or ``name.attribute`` if only an attribute is read."""
    imports: dict[str, Node] = field(default_factory=dict)
    """The definitions that imported names refer to; a whole module has no name."""


@dataclass
class _Module:
    """The definitions of a module by name, and its imports."""

    texts: dict[str, _Text]
    imports: dict[str, Node]


@cache
def _bare(node: Node) -> str:
    module, name = node
    return digest(_module(module).texts[name].bare) if module else name


def _edges(node: Node) -> dict[str, list[Node]]:
    """Return the definitions that each name in ``node`` refers to, without builtins and local variables."""
    module_name, own = node
    if not module_name:
        return {}
    module = _module(module_name)
    text = module.texts[own]
    imports = module.imports | text.imports
    edges = {"": [(module_name, "")]} if own and module.texts[""].bare else {}
    for read in text.names - {"__version__"}:  # a release is not code
        base, _, attribute = read.partition(".")
        nodes = _targets(*imports[base], attribute) if base in imports else []
        if base in module.texts:
            nodes.append((module_name, base))
        if nodes:
            edges[read] = nodes
    return edges


def _targets(module: str, name: str, attribute: str) -> list[Node]:
    """Return the definitions that an imported name refers to; ``attribute`` if only that is read."""
    if module.partition(".")[0] not in {*PACKAGES, *added_packages()}:
        return [("", f"{module}:{name or attribute}")]
    if not name and attribute:
        return _targets(module, attribute, "")
    known = _module(module)
    if name and name in known.texts:
        return [(module, name)]
    if name in known.imports:
        return _targets(*known.imports[name], attribute)
    if name and _is_package(module) and find_spec(f"{module}.{name}"):
        return _targets(f"{module}.{name}", "", attribute)
    return [(module, item) for item in known.texts]


def _is_package(module: str) -> bool:
    spec = find_spec(module)
    return spec is not None and spec.submodule_search_locations is not None


@cache
def _module(name: str) -> _Module:
    module = _Module({"": _Text()}, {})
    for statement in _statements(ast.parse(_source(name)).body):
        text = _Text()
        _read(statement, text, name)
        definition = isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        if not definition:
            module.imports |= text.imports
        for bound in list(_bound(statement)) or [""]:
            known = module.texts.setdefault(bound, _Text())
            known.bare += text.bare
            known.names |= text.names
            known.imports |= text.imports if definition else {}
    return module


def _source(module: str) -> str:
    try:
        return _file(module).read_text(encoding="utf-8")
    except OSError as error:
        raise LsnError(f"The source of the module '{module}' is missing, so results have no key.") from error


def _data(module: str, name: str) -> bytes:
    """Return the bytes of a data file beside ``module``; empty if there is no such file."""
    path = _file(module).with_name(name)
    return path.read_bytes() if path.is_file() else b""


def _file(module: str) -> Path:
    spec = find_spec(module)
    return Path(spec.origin if spec and spec.origin else f"{module}.py")


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements of a module, including those for type checkers."""
    for statement in body:
        if isinstance(statement, ast.If) and ast.unparse(statement.test) == "TYPE_CHECKING":
            yield from statement.body
        else:
            yield statement


def _bound(statement: ast.AST) -> Iterator[str]:
    """Yield the names that a statement of a module defines."""
    match statement:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.Name(id=name, ctx=ast.Store()):
            yield name
        case ast.Lambda() | ast.comprehension():
            return
        case _:
            for child in ast.iter_child_nodes(statement):
                yield from _bound(child)


def _read(node: Any, text: _Text, module: str, *, annotation: bool = False) -> None:
    """Add the source of ``node`` to ``text``; in an ``annotation``, a string is parsed as an expression."""
    match node:
        case ast.Import() | ast.ImportFrom():
            text.imports |= _imports(node)
        case ast.Expr(value=ast.Constant()):
            return  # a docstring
        case ast.Constant(value=str() as value) if annotation:
            _read(ast.parse(value, mode="eval").body, text, module)
        case ast.Constant(value=str() as value):
            text.bare.append("" if POINTER.fullmatch(value) else repr(value))
            if DATA_FILE.fullmatch(value):
                text.bare.append(sha256(_data(module, value)).hexdigest())
        case ast.Name(id=name):
            text.bare.append(name)
            if isinstance(node.ctx, ast.Load):
                text.names.add(name)
        case ast.Attribute(value=ast.Name(id=name), attr=attribute):
            text.bare += [name, ".", attribute]
            text.names.add(f"{name}.{attribute}")
        case ast.Dict(keys=keys, values=values):
            rows = [row for row in zip(keys, values, strict=True) if not _points(row[1])]
            _read([item for row in rows for item in row], text, module)
        case ast.AST():
            literal = isinstance(node, ast.Subscript) and ast.unparse(node.value).endswith("Literal")
            text.bare.append(f"{type(node).__name__}(")
            for key, value in ast.iter_fields(node):
                # Empty fields are left out: newer versions of Python have more of them.
                if value is None or value == [] or key in ("ctx", "kind", "type_comment"):
                    continue
                text.bare.append(key)
                inside = key in ("annotation", "returns") or (annotation and not literal)
                _read(value, text, module, annotation=inside)
            text.bare.append(")")
        case list():
            text.bare.append("[")
            for item in node:
                _read(item, text, module, annotation=annotation)
            text.bare.append("]")
        case _:
            text.bare.append(repr(node))


def _points(value: ast.expr) -> bool:
    """Return whether a dict's value holds ``module:name`` of ours, so that the dict is a registry."""
    texts = (str(node.value) for node in ast.walk(value) if isinstance(node, ast.Constant))
    return any(":" in text and POINTER.fullmatch(text) for text in texts)


def _imports(node: ast.Import | ast.ImportFrom) -> dict[str, Node]:
    if isinstance(node, ast.ImportFrom):
        return {item.asname or item.name: (node.module or "", item.name) for item in node.names}
    tops = [item.name.partition(".")[0] for item in node.names if not item.asname]
    return {top: (top, "") for top in tops} | {
        item.asname: (item.name, "") for item in node.names if item.asname
    }
