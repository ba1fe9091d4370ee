"""``lsn`` with presets of few epochs, so that all rows of the paper's tables are learned in minutes.

Arguments: those of ``lsn``. Nothing else is changed: rows, classes, methods and files are the suite's.
"""

import sys
from dataclasses import replace

from lsncli.prompts import settings
from lsncli.training import checkpoints as resume

EPOCHS = 2


def shorten() -> None:
    """Let every preset end after ``EPOCHS`` epochs, and keep each of them at once."""
    resume.SAVE_SECONDS = 0.0
    for kind, modes in settings.PRESETS.items():
        settings.PRESETS[kind] = {mode: replace(one, epochs=EPOCHS) for mode, one in modes.items()}
    settings._COCOOP_SCHEDULE["epochs"] = EPOCHS


if __name__ == "__main__":
    shorten()
    from lsncli.cli.app import main

    main(sys.argv[1:])
