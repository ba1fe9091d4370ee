"""Why a model's weights do not load, in a sentence.

What torch, open_clip and the hub say is long, names options that would run a stranger's code, and may hold
escape codes of a terminal, their own or the file's.
"""

import re
from textwrap import shorten

from lsncli.console import printable

ESCAPE = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|[@-_])")
LONGEST = 200
GLOBAL = re.compile(
    r"(?:Unsupported (?:global|class|type)[^:]*: (?:GLOBAL )?|Tried to instantiate class )(\S+)"
)
KEYS = {
    "is missing": re.compile(r"Missing key\(s\) in state_dict: (.*)"),
    "is unknown": re.compile(r"Unexpected key\(s\) in state_dict: (.*)"),
}
SIZES = re.compile(
    r"size mismatch for (\S+): copying a param with shape torch\.Size\((.*?)\) from checkpoint, "
    r"the shape in current model is torch\.Size\((.*?)\)"
)


def load_reason(error: Exception) -> str:
    """What to say of an error that was raised while weights were loaded, without a full stop."""
    text = ESCAPE.sub("", str(error))
    if "Weights only load failed" in text:
        return _of_pickle(text)
    if "in loading state_dict" in text:
        return _of_state(str(error))
    if isinstance(error, (KeyError, EOFError)) or not text.strip():  # what torch raises on any other file
        return cleaned(f"it is cut short, or no file of tensors ({type(error).__name__} {text}".strip()) + ")"
    return cleaned(text)


def cleaned(text: str) -> str:
    """A text of a library on one line, without escape codes, cut after ``LONGEST`` characters."""
    return printable(shorten(ESCAPE.sub("", text), LONGEST, placeholder=" ...")).rstrip(" .")


def _of_pickle(text: str) -> str:
    unsafe = GLOBAL.search(text)
    if unsafe is None:
        return cleaned(f"it is no file of tensors: {text.rpartition('WeightsUnpickler error: ')[2]}")
    return (
        f"besides tensors it holds an object of {_name(unsafe[1])}, and to load objects may run code; "
        "save the tensors alone: torch.save(model.state_dict(), FILE)"
    )


def _of_state(text: str) -> str:
    """Weights that are missing, unknown or of another shape: how many, and the first of each kind."""
    parts = []
    for what, pattern in KEYS.items():
        line = pattern.search(text)
        names = re.findall(r'"(.*?)"', line[1]) if line else []
        if names:
            parts.append(_counted(len(names), what, f"'{_name(names[0])}'"))
    sizes = SIZES.findall(text)
    if sizes:
        name, found, expected = sizes[0]
        shapes = f"'{_name(name)}': expected {expected}, found {found}"
        parts.append(_counted(len(sizes), "has another shape (size mismatch)", shapes))
    return "; ".join(parts) or cleaned(text)


def _name(text: str) -> str:
    return printable(text)[:100]


def _counted(count: int, what: str, first: str) -> str:
    if count == 1:
        return f"1 weight {what}: {first}"
    return f"{count} weights {what.replace('is ', 'are ').replace('has ', 'have ')}, such as {first}"
