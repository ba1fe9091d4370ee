"""What text is a URL."""

import os
import re
from pathlib import Path
from urllib.parse import unquote

SCHEME = re.compile(r"([a-z][a-z0-9+.-]+(?:::[a-z][a-z0-9+.-]+)*):/{1,3}(?=[^/]|$)", re.IGNORECASE)

FILE = re.compile(r"file:/{1,3}(?=[^/])", re.IGNORECASE)


def as_url(path: Path | str) -> str | None:
    """``path`` as a URL if it is one, else None. ``Path`` drops one slash of "s3://"; it is put back."""
    text = str(path)
    found = SCHEME.match(text)
    if found is None or os.path.lexists(text):
        return None
    return f"{found[1].lower()}://{text[found.end() :]}"


def without_scheme(text: str) -> str:
    """The path of a ``file://`` URL; any other text as it is."""
    found = FILE.match(text)
    return text if found is None or os.path.lexists(text) else "/" + unquote(text[found.end() :])
