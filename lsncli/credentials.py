"""Mask credentials in URLs, such as passwords and signatures, wherever a text is shown or stored."""

import re

HIDDEN = "***"

_USER = re.compile(r"(https?:/{1,3})[^/?#\n]*@", re.IGNORECASE)
"""Over HTTP, a user name without a password is usually a token."""
_PASSWORD = re.compile(r"(:/{1,3}[^/?#:@\s]*:)[^/?#\n]*@")
_PARAMETER = re.compile(
    r"""([?&\#](?:
            [^=&\#\s'"?]*(?:signature|credential|token|passw(?:or)?d|secret|api[-_]?key|access[-_]?key(?:[-_]?id)?)
            | sig | sas | pwd | pass | auth | authorization | jwt | hdne[at] | hdnts
        )=)[^&\#\s'"]+""",
    re.IGNORECASE | re.VERBOSE,
)
_KEY = re.compile(r"([?&#]key=)[\w-]{20,}(?![^&#\s'\",;:)\]}>])", re.IGNORECASE)
"""``key`` can also be the name of an object: only a value that looks random is masked."""


def mask_credentials(text: str) -> str:
    """Replace the credentials of every URL in ``text`` by ``***``; leave other text unchanged.

    Masked are user and password over HTTP, passwords elsewhere, and the values of parameters that grant
    access: signatures, tokens, passwords and keys.
    """
    if ":/" not in text:
        return text
    text = _USER.sub(rf"\1{HIDDEN}@", text) if "@" in text else text
    text = _PASSWORD.sub(rf"\1{HIDDEN}@", text) if "@" in text else text
    return mask_query(text)


def mask_query(text: str) -> str:
    """The same for parameters alone, also of a URL that is relative."""
    if "=" not in text:
        return text
    return _KEY.sub(rf"\1{HIDDEN}", _PARAMETER.sub(rf"\1{HIDDEN}", text))
