"""libtiff, which reads TIFFs for Pillow, kept from writing to stderr."""

import ctypes
from contextlib import suppress
from functools import cache


@cache
def silence() -> None:
    """Tell libtiff, once in a process, to print no errors and no warnings.

    It prints them into the middle of a progress bar, and without the name of the file; what is wrong with an
    image is told by Pillow's exception anyway. Pillow has no option for it, but where it links to libtiff (as
    its wheels for Linux and macOS do) its own module leads there. Anywhere else nothing happens.
    """
    with suppress(ImportError, OSError, AttributeError):
        from PIL import _imaging

        pillow = ctypes.CDLL(_imaging.__file__)
        for set_handler in (pillow.TIFFSetErrorHandler, pillow.TIFFSetWarningHandler):
            set_handler.argtypes, set_handler.restype = [ctypes.c_void_p], ctypes.c_void_p
            set_handler(None)
