"""Artefacts on disk: prompts, heads and calibrated detectors as safetensors files with JSON metadata.

In: what training or calibration made. Out: a file with a format version; older versions are read or named.
"""

from pathlib import Path

from lsncli.errors import LsnError

MAKE_DETECTOR = (
    'Make one from class names and good images: `lsn calibrate FOLDER --classes "cat,dog"`; or from '
    "features: `lsn calibrate --method mcm`, or `lsn train-pos` and `lsn train-neg`."
)


def check_exists(path: Path, kind: str, hint: str) -> None:
    """Raise LsnError if there is no artefact at ``path``; loads no library, so commands ask first."""
    if not path.is_file():
        raise LsnError(f"There is no {kind} artefact at {path}.", hint)


def check_detector_exists(path: Path) -> None:
    """Raise LsnError if there is no detector at ``path``, as ``check_exists``."""
    check_exists(path, "detector", MAKE_DETECTOR)
