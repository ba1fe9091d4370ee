"""The feature store: one HDF5 file with the image features of one model. README.md specifies the format.

It stores rows, labels, keys, failures and the model's fingerprint. Reading verifies them; large splits are
memory-mapped.
"""

from pathlib import Path

from lsncli.errors import LsnError

NO_VERIFY = "LSN_NO_VERIFY"
"""Environment variable of `lsn --no-verify`: stores are read without verifying their checksums."""


def check_exists(path: Path) -> None:
    """Raise LsnError if there is no feature store at ``path``; loads no library, so commands ask first."""
    if not path.exists():
        raise LsnError(
            f"There is no feature store at {path}.", "Make one with `lsn extract FOLDER`, or give --work."
        )
