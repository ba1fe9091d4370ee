"""Build the page: one HTML file without network access, other files, or foreign scripts and styles."""

import base64
import hashlib
import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

SCRIPTS = ("state.js", "charts.js", "gallery.js", "tables.js", "main.js")
"""Joined in this order into one script."""
STYLES = ("style.css", "media.css")
"""The style for wide screens, then the differences for narrow screens, touch and print."""


def build_page(data: Mapping[str, Any]) -> str:
    """Return the page that shows ``data`` (``data.page_data``).

    The content security policy allows the script and the style by their hashes, and pictures within the file;
    a name interpreted as markup could not run or load anything.
    """
    style = "\n".join(read_part(name) for name in STYLES)
    body = "\n".join(read_part(name) for name in SCRIPTS)
    script = f'(() => {{\n"use strict";\n{body}}})();\n'
    return filled("template.html", style, SCRIPT=script, DATA=_json(data))


def filled(template: str, style: str, **texts: str) -> str:
    """Return a template with its policy, its ``style`` and ``texts`` in place, foreign names in the last one.

    The policy allows the style and a text named SCRIPT by their hashes.
    """
    scripts = [f"script-src '{_hash(texts['SCRIPT'])}'"] if "SCRIPT" in texts else []
    policy = "; ".join(
        [
            "default-src 'none'",
            "img-src data:",
            f"style-src '{_hash(style)}'",
            *scripts,
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )
    page = read_part(template)
    # Foreign names come last: a file name may look like one of the other placeholders.
    for name, text in ({"POLICY": policy, "STYLE": style} | texts).items():
        before, after = page.split("{{" + name + "}}")
        page = before + text + after
    return page


def read_part(name: str) -> str:
    """Return the text of a file of the page."""
    return (files("lsncli.report.page") / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _json(data: Mapping[str, Any]) -> str:
    """Return ASCII JSON that cannot close its script element, whatever a name contains."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
