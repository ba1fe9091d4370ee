"""How long jobs take, by how long earlier ones of the same kind took."""

import statistics
from collections import defaultdict

from lsncli.bench.plan import Job
from lsncli.bench.results import Results


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
