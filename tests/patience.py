"""Waiting for what other threads and processes do, without a verdict on how long it takes."""

import time
from collections.abc import Callable

PATIENCE = 120.0
"""Seconds after which a wait counts as a hang. No working code comes near it on a slow, busy machine, and it
is below the time limit of a test, so that the message is that of the wait."""


def wait_until(done: Callable[[], bool], what: str) -> None:
    """Return once ``done()`` is true; fail with ``what`` was missing if it never is."""
    limit = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < limit, f"still missing after {PATIENCE:.0f} s: {what}"
        time.sleep(0.002)
