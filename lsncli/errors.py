"""The errors a user can meet, each with the exit code it ends the program with.

An error says what is wrong, where, what was expected and what was found (``message``), and what to do
next (``hint``). Only the command line turns one into text; library code raises it and never prints.
"""

from lsncli.credentials import masked

LONGEST = 2000
"""Characters of a message; what is cut out of a longer one was copied from some file."""


def shortened(text: str, longest: int = LONGEST) -> str:
    """``text`` with its middle left out, and counted, if it has more characters than ``longest``."""
    if len(text) <= longest:
        return text
    start = longest * 2 // 3
    end = len(text) - (longest - start)
    return f"{text[:start]} ... ({end - start:,} characters) ... {text[end:]}"


class LsnError(Exception):
    """Bad data or a bad store (exit code 1), and the parent of every other error of ours.

    Credentials in URLs are hidden: what fails is printed, logged and stored. What is longer than LONGEST is
    cut in its middle.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        self.message = masked(shortened(message))
        self.hint = masked(shortened(hint))
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class UsageError(LsnError):
    """An invalid option or argument (exit code 2)."""

    exit_code = 2


class TooManyFailures(LsnError):
    """Everything was done, but more images failed than allowed (exit code 3)."""

    exit_code = 3


class FingerprintMismatch(LsnError):
    """Features, prompts or a detector of another model (exit code 4)."""

    exit_code = 4


class Unavailable(LsnError):
    """A dependency, a device or a pretrained model that is not here (exit code 5)."""

    exit_code = 5


class OodFound(LsnError):
    """Everything was done, and there are OOD images, which --fail-on-ood was to tell (exit code 6)."""

    exit_code = 6
