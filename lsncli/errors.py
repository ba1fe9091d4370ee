"""The errors shown to the user, each with its exit code.

An error says what is wrong, where, what was expected and what was found (``message``), and what to do
next (``hint``). Only the command line turns one into text; library code raises it and never prints.
"""

from lsncli.credentials import mask_credentials

LONGEST = 2000
"""The longest message in characters. Longer messages quote a file, and are cut."""


def shortened(text: str, longest: int = LONGEST) -> str:
    """Replace the middle of a ``text`` longer than ``longest`` by the number of characters left out."""
    if len(text) <= longest:
        return text
    start = longest * 2 // 3
    end = len(text) - (longest - start)
    return f"{text[:start]} ... ({end - start:,} characters) ... {text[end:]}"


def first_sentence(error: Exception) -> str:
    """Return the first sentence of an error of a library, which may have many lines."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return lines[0].split(". ")[0].rstrip(".") + "."


class LsnError(Exception):
    """Invalid data or an invalid store (exit code 1), and the base class of all errors of lsn.

    Credentials in URLs are masked, because errors are printed, logged and stored. The middle of a message
    longer than LONGEST is cut.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        self.message = mask_credentials(shortened(message))
        self.hint = mask_credentials(shortened(hint))
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class UsageError(LsnError):
    """An invalid option or argument (exit code 2)."""

    exit_code = 2


class TooManyFailures(LsnError):
    """The command completed, but more images failed than allowed (exit code 3)."""

    exit_code = 3


class FingerprintMismatch(LsnError):
    """Features, prompts or a detector of another model (exit code 4)."""

    exit_code = 4


class Unavailable(LsnError):
    """A dependency, a device or a pretrained model is not available (exit code 5)."""

    exit_code = 5


class OodFound(LsnError):
    """The command completed and found OOD images, with --fail-on-ood (exit code 6)."""

    exit_code = 6
