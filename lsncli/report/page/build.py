"""One HTML file that needs nothing else: no network, no other file, and no script or style but its own."""

import base64
import hashlib
import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

SCRIPTS = ("state.js", "charts.js", "gallery.js", "tables.js", "main.js")
"""In this order they are one script."""
STYLES = ("style.css", "media.css")
"""The page on a wide screen; then what is different on a narrow one, under a finger and on paper."""


def build_page(data: Mapping[str, Any]) -> str:
    """The page that shows ``data`` (``data.page_data``).

    The content security policy allows the one script and the one style by their hashes, pictures that are
    part of the file, and nothing else: were a name ever taken for markup, it could still not run or load
    anything.
    """
    style = "\n".join(_read(name) for name in STYLES)
    body = "\n".join(_read(name) for name in SCRIPTS)
    script = f'(() => {{\n"use strict";\n{body}}})();\n'
    policy = "; ".join(
        [
            "default-src 'none'",
            "img-src data:",
            f"style-src '{_hash(style)}'",
            f"script-src '{_hash(script)}'",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )
    page = _read("template.html")
    # The data come last: a file name may look like any of the other places.
    for name, text in (("POLICY", policy), ("STYLE", style), ("SCRIPT", script), ("DATA", _json(data))):
        before, after = page.split("{{" + name + "}}")
        page = before + text + after
    return page


def _read(name: str) -> str:
    return (files("lsncli.report.page") / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _json(data: Mapping[str, Any]) -> str:
    """JSON that cannot end the element it stands in, whatever a name holds; all of it is ASCII."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
