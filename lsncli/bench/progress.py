"""Show how far a run is: a bar on a terminal, a line now and then elsewhere.

How long jobs take is estimated from earlier ones of the same kind.
"""

import statistics
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from lsncli.bench.plan import Job
from lsncli.bench.results import Results
from lsncli.console import ProgressCallback, duration, err, progress_bar, say


class Rates:
    """Seconds a unit of work by label, from earlier jobs of the same kind."""

    def __init__(self, timings: Results) -> None:
        found: dict[str, list[float]] = defaultdict(list)
        for one in timings.lines():
            if isinstance(one.get("seconds"), float) and isinstance(one.get("units"), int):
                found[str(one.get("label"))].append(one["seconds"] / max(1, one["units"]))
        self._rates = found

    def seconds(self, job: Job) -> float | None:
        """What the job will take; None if nothing like it was done before, 0 for what is done."""
        return 0.0 if job.done or job.blocked else self.guess(job.label, job.units)

    def guess(self, label: str, units: int | None) -> float | None:
        """Seconds for so many units of a label; None if nothing like it was done before."""
        if units is None or not self._rates.get(label):
            return None
        return statistics.median(self._rates[label]) * units

    def heard(self, label: str, units: int, seconds: float) -> None:
        """Of a job that was done just now."""
        self._rates[label].append(seconds / max(1, units))


LINE_SECONDS = 10.0
"""Between two lines where there is no bar."""

Waiting = tuple[str, int | None]
"""A job that is to be done: its label and units."""


class Progress:
    """Counts jobs and estimates what is left from how long jobs of the same label took."""

    def __init__(
        self, waiting: dict[str, Waiting], rates: Rates, progress: ProgressCallback, quiet: bool
    ) -> None:
        self._waiting, self._rates, self._progress, self._quiet = dict(waiting), rates, progress, quiet
        self._total, self._said = len(waiting), time.monotonic()

    def now(self, what: str) -> None:
        """This job is being done."""
        self._progress(0, f"{what}{self._left()}")
        if not err.is_terminal and time.monotonic() - self._said >= LINE_SECONDS:
            done = self._total - len(self._waiting)
            say(f"{done} of {self._total} jobs done; now {what}{self._left()}", quiet=self._quiet)
            self._said = time.monotonic()

    def over(self, what: str, units: int = 0, seconds: float = 0.0) -> None:
        """This job is done, or cannot be; ``seconds`` teach the estimate."""
        label, _ = self._waiting.pop(what, ("", None))
        if label and seconds:
            self._rates.heard(label, units, seconds)
        self._progress(1)

    def _left(self) -> str:
        guesses = [self._rates.guess(*one) for one in self._waiting.values()]
        known = [seconds for seconds in guesses if seconds is not None]
        if not known:
            return ""
        at_least = "at least " if len(known) < len(guesses) else "about "
        return f"; {at_least}{duration(sum(known))} left"


@contextmanager
def shown(waiting: dict[str, Waiting], rates: Rates, quiet: bool) -> Iterator[Progress]:
    """A bar over ``waiting`` jobs by what people call them."""
    with progress_bar("jobs", len(waiting), quiet=quiet) as progress:
        yield Progress(waiting, rates, progress, quiet)
