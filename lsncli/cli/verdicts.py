"""The columns of ``lsn score``."""

from lsncli.errors import UsageError
from lsncli.report.formats import FORMATS, Column

COLUMNS = [
    Column("path", "Path", wide=True),
    Column("predicted", "Predicted"),
    Column("score", "Score", digits=6),
    Column("positive", "Positive", digits=6),
    Column("negative", "Negative", digits=6),
    Column("threshold", "Threshold", digits=6),
    Column("is_ood", "OOD", flag=True),
    Column("error", "Unreadable because", wide=True, optional=True),
]
PARTS = ("positive", "negative")
TARGET = Column("target", "Goes to", wide=True)
BY_CLASS = [
    Column("class", "Predicted", wide=True),
    Column("id", "ID", digits=0),
    Column("ood", "OOD", digits=0),
]
KINDS = ("ood", "id", "failed")


def columns_for(format_name: str, *left_out: str) -> list[Column]:
    """The columns, less those named; a narrow format has no room for the two parts of a score."""
    less = {*left_out, *(PARTS if FORMATS[format_name].narrow else ())}
    return [column for column in COLUMNS if column.key not in less]


def check_kinds(given: list[str] | None) -> list[str] | None:
    """``--only``. Raises UsageError for what is no kind."""
    for kind in given or ():
        if kind not in KINDS:
            raise UsageError(f"--only: expected {', '.join(KINDS[:-1])} or {KINDS[-1]}, found '{kind}'.")
    return given
