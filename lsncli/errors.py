"""The errors shown to the user, each with its exit code.

An error says what is wrong, where, what was expected and what was found (``message``), and what to do
next (``hint``). Only the command line turns one into text; library code raises it and never prints.
"""

from collections.abc import Iterable

from lsncli.credentials import mask_credentials

LONGEST = 2000
"""The longest message in characters. Longer messages quote a file, and are cut."""


LONGEST_NAME = 50
"""The longest part of a misspelled name that is compared with others."""


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


def edit_distance(first: str, second: str) -> int:
    """Return how many letters to insert, delete, replace or swap with a neighbour between two texts."""
    before: list[int] = []
    row = list(range(len(second) + 1))
    for i, letter in enumerate(first, 1):
        older, before, row = before, row, [i]
        for j, other in enumerate(second, 1):
            best = min(before[j] + 1, row[-1] + 1, before[j - 1] + (letter != other))
            if i > 1 and j > 1 and letter == second[j - 2] and first[i - 2] == other:
                best = min(best, older[j - 2] + 1)
            row.append(best)
    return row[-1]


def similar(name: str, known: Iterable[str], most: int = 3) -> list[str]:
    """Return the known names that ``name`` may be a misspelling of, the nearest first."""
    wanted = name.lower()[:LONGEST_NAME]
    near = [(edit_distance(wanted, one.lower()), one) for one in known]
    limit = max(1, len(wanted.strip("-")) // 3)
    return [one for distance, one in sorted(near, key=lambda pair: pair[0]) if distance <= limit][:most]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a question that names similar ``known`` names, the nearest first; empty if there are none."""
    names = [f"'{one}'" for one in similar(name, known)]
    return f"Did you mean {', '.join(names[:-1])}{' or ' if names[:-1] else ''}{names[-1]}?" if names else ""


def expected_one_of(name: str, known: Iterable[str]) -> str:
    """Return a hint for a ``name`` that is unknown: similar names first, then all."""
    names = list(known)
    return f"{did_you_mean(name, names)} Expected one of {', '.join(names)}.".lstrip()


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
