"""Whether the methods and settings of a table are valid: checked before any work is done."""

from lsncli.artefacts.heads import COMMANDS
from lsncli.bench.suite import RowSpec, Step, Suite, TableSpec
from lsncli.errors import UsageError
from lsncli.methods.spec import parse_method
from lsncli.prompts.dualcoop import dual_settings
from lsncli.prompts.settings import preset


def check_methods(suite: Suite, table: TableSpec) -> None:
    """Raise UsageError, naming suite, table and row, for an invalid method or setting, and for
    a method that looks at what the row does not learn or at images that its ID set does not have.

    A row that is unavailable may lack those.
    """
    for row in table.rows:
        try:
            for step in row.learn:
                _check_step(step)
            missing = _missing(suite, row)
            if missing and not row.unavailable:
                raise UsageError(f"the method {row.method} {missing}.")
        except UsageError as error:
            where = f"Suite '{suite.name}', table {table.key}, row '{row.name}'"
            raise UsageError(f"{where}: {error.message}", error.hint) from error


def _check_step(step: Step) -> None:
    try:
        if step.kind in ("positive", "negative"):
            preset(step.kind, **step.settings)
        elif step.kind == "dualcoop":
            dual_settings(**step.settings)
        elif step.settings:
            raise UsageError(f"expected no settings for a head, found '{next(iter(step.settings))}'.")
    except TypeError as error:  # no such setting, or a value of another kind
        raise UsageError(
            f"learn '{step.name}': {error}.", "Settings are those of `lsn train-pos`."
        ) from error
    except UsageError as error:
        raise UsageError(f"learn '{step.name}': {error.message}", error.hint) from error


def _missing(suite: Suite, row: RowSpec) -> str:
    """What the method of a row lacks, in words; empty if nothing."""
    method = parse_method(row.method)
    needed = {method.head} & {"positive", *COMMANDS}
    if "negative" in method.needs and method.head not in COMMANDS:
        needed.add("negative")
    absent = sorted(needed - {step.kind for step in row.learn})
    if absent:
        return f"needs something of the kind '{absent[0]}' under the key 'learn'"
    if row.id and not suite.ids[row.id].train and method.needs & {"train", "labels"}:
        return f"looks at training images, and the ID set '{row.id}' has no 'train'"
    return ""
