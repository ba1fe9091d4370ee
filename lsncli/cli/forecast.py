"""``lsn extract --plan``: what the extraction would take, shown and not begun."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from lsncli.cli import options
from lsncli.console import progress, say
from lsncli.report.formats import FORMATS, Column, render

if TYPE_CHECKING:
    from lsncli.backbones import Backbone
    from lsncli.extraction.estimate import Forecast, Probe
    from lsncli.images.listing import Listing

FOR_PEOPLE = [
    Column("count", "Images"),
    Column("parts", "Parts", digits=0),
    Column("workers", "Workers", digits=0),
    Column("time", "Time"),
    Column("read", "Read"),
    Column("store", "Store"),
    Column("disk", "Disk"),
]
FOR_PROGRAMS = [
    Column(name, name)
    for name in (
        *("images", "parts", "part_rows", "workers", "hours", "read_bytes", "store_bytes", "disk_bytes"),
        *("probed_images", "probed_seconds", "probed_failures", "images_per_second"),
    )
]
WAITS = 0.2
"""The share of the time spent waiting for pixels from which on decoding is named as the limit."""


def show(
    listing: "Listing",
    backbone: "Backbone",
    *,
    store: Path,
    source: str,
    also_for: int | None,
    batch_size: int,
    part_rows: int,
    workers: int,
    format: options.FormatName,
    output: Path | None,
    quiet: bool,
) -> None:
    """Probe, estimate for the listing and for ``also_for`` images, print. ``part_rows`` 0: the usual size."""
    from lsncli.extraction import estimate as use
    from lsncli.images.listing import check_not_empty
    from lsncli.store.staging import part_rows_for

    check_not_empty(listing, source)
    with progress("probing", None, quiet=quiet) as tick:
        probed = use.probe(listing, backbone, batch_size=batch_size, workers=workers, tick=tick)
    counts = [len(listing.items), *([also_for] if also_for else [])]
    found = use.forecasts(
        counts,
        probed,
        dim=backbone.fingerprint.dim,
        part_rows=part_rows_for(batch_size, part_rows),
        store_now=store.stat().st_size if store.is_file() else 0,
    )
    rows = [_row(one, probed) for one in found]
    render(rows, FOR_PEOPLE if FORMATS[format].people else FOR_PROGRAMS, format, output)
    say(_measured(probed), quiet=quiet)
    say(use.ASSUMED, quiet=quiet)


def _row(one: "Forecast", probed: "Probe") -> dict[str, object]:
    return asdict(one) | {
        "count": f"{one.images:,}",
        "hours": one.seconds / 3600,
        "time": lasting(one.seconds),
        "read": size(one.read_bytes),
        "store": size(one.store_bytes),
        "disk": size(one.disk_bytes),
        "probed_images": probed.images,
        "probed_seconds": probed.seconds,
        "probed_failures": probed.failures,
        "images_per_second": probed.images_per_second,
    }


def _measured(probed: "Probe") -> str:
    text = (
        f"Measured: {probed.images} images in {probed.seconds:.1f} s, "
        f"{probed.images_per_second:.1f} images/s by one worker"
    )
    text += f", {probed.failures} unreadable" if probed.failures else ""
    share = probed.waiting / probed.seconds
    return text + (f"; {share:.0%} of the time it waited for pixels (--workers)." if share > WAITS else ".")


def lasting(seconds: float) -> str:
    """A time as people say it: seconds, minutes, hours, and days beside many hours."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    hours = seconds / 3600
    return f"{hours:.1f} h" if hours < 48 else f"{hours:,.0f} h ({hours / 24:,.0f} days)"


def size(count: int | None) -> str:
    """Bytes in decimal units, as disks are sold; nothing for None."""
    if count is None:
        return ""
    power = min(max(len(str(count)) - 1, 0) // 3, 4)
    value = count / 1000**power
    digits = 1 if power and value < 100 else 0
    return f"{value:,.{digits}f} {('bytes', 'kB', 'MB', 'GB', 'TB')[power]}"
