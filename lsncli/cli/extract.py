"""``lsn extract``: encode images into features in the store; with ``--plan``, estimate the time and space."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lsncli.cli import engines as engines
from lsncli.cli import options
from lsncli.cli.configured import ONLY_READ
from lsncli.cli.help_page import ADVANCED
from lsncli.console import duration, printable, progress_bar, remarks, say, verbose
from lsncli.errors import UsageError
from lsncli.methods.workspace import Workspace
from lsncli.report.formats import FORMATS, Column, render

if TYPE_CHECKING:
    from lsncli.backbones import Backbone
    from lsncli.extraction.estimate import Forecast, SpeedProbe
    from lsncli.images.item import Listing

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
"""Fraction of the time spent waiting for pixels above which decoding is reported as the bottleneck."""


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
    """Print estimates for the listing and for ``also_for`` images, after a measurement of speed."""
    from lsncli.extraction import estimate as use
    from lsncli.images.listing import check_not_empty

    check_not_empty(listing, source)
    with progress_bar("probing", None, quiet=quiet) as progress:
        probed = use.probe(listing, backbone, batch_size=batch_size, workers=workers, progress=progress)
    counts = [len(listing.items), *([also_for] if also_for else [])]
    forecasts = use.forecasts(
        counts,
        probed,
        dim=backbone.fingerprint.dim,
        batch_size=batch_size,
        part_rows=part_rows,
        store_now=store.stat().st_size if store.is_file() else 0,
    )
    rows = [_row(forecast, probed) for forecast in forecasts]
    render(rows, FOR_PEOPLE if FORMATS[format].people else FOR_PROGRAMS, format, output)
    say(_measured(probed), quiet=quiet)
    say(use.ASSUMED, quiet=quiet)


def _row(forecast: "Forecast", probed: "SpeedProbe") -> dict[str, object]:
    return asdict(forecast) | {
        "count": f"{forecast.images:,}",
        "hours": forecast.seconds / 3600,
        "time": duration(forecast.seconds),
        "read": size(forecast.read_bytes),
        "store": size(forecast.store_bytes),
        "disk": size(forecast.disk_bytes),
        "probed_images": probed.images,
        "probed_seconds": probed.seconds,
        "probed_failures": probed.failures,
        "images_per_second": probed.images_per_second,
    }


def _measured(probed: "SpeedProbe") -> str:
    text = (
        f"Measured: {probed.images} images in {probed.seconds:.1f} s, "
        f"{probed.images_per_second:.1f} images/s by one worker"
    )
    text += f", {probed.failures} unreadable" if probed.failures else ""
    share = probed.waiting / probed.seconds
    return text + (f"; {share:.0%} of the time it waited for pixels (--workers)." if share > WAITS else ".")


def size(count: int | None) -> str:
    """Format bytes in decimal units, as for disks; an empty text for None."""
    if count is None:
        return ""
    power = min(max(len(str(count)) - 1, 0) // 3, 4)
    value = count / 1000**power
    digits = 1 if power and value < 100 else 0
    return f"{value:,.{digits}f} {('bytes', 'kB', 'MB', 'GB', 'TB')[power]}"


if TYPE_CHECKING:
    from lsncli.backbones import Backbone

COLUMNS = [
    Column("split", "Split"),
    Column("rows", "Rows", digits=0),
    Column("classes", "Classes", digits=0),
    Column("failures", "Failures", digits=0),
    Column("resumed", "Resumed", digits=0),
    Column("images_per_second", "Images/s", digits=1),
]
# The fields of ``lsncli.types.Seconds``, which help must not load: numpy comes with it.
STAGES = [Column(name, name, digits=1) for name in ("read", "decode", "waiting", "encode", "write")]
ALL_STAGES = [*STAGES, Column("device", "Device")]


def extract(
    context: typer.Context,
    sources: Annotated[
        list[Path],
        typer.Argument(
            help="Folders (one per class, or flat), patterns, lists, tars, .parquet, URLs.", metavar="SOURCE"
        ),
    ],
    split: Annotated[str, typer.Option(help="Name of the split to write.")] = "train",
    classes: Annotated[
        Path | None,
        ONLY_READ,
        typer.Option(help="File of class names: 'class<TAB>name' lines, a list of names, or JSON."),
    ] = None,
    shots: Annotated[int | None, typer.Option(help="At most so many images of each class.")] = None,
    seed: Annotated[int, typer.Option(help="Which images --shots takes.", rich_help_panel=ADVANCED)] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start again instead of resuming.")] = False,
    retry_failed: Annotated[
        bool,
        typer.Option(
            "--retry-failed", help="Read only the recorded failures again.", rich_help_panel=ADVANCED
        ),
    ] = False,
    max_failure_rate: options.MaxFailureRate = 0.05,
    path_column: options.PathColumn = "",
    label_column: options.LabelColumn = "",
    follow_links: options.FollowLinks = False,
    plan: Annotated[
        bool, typer.Option("--plan", help="Only try a few batches, and say what all would take.")
    ] = False,
    plan_for: Annotated[
        int | None,
        typer.Option("--for", min=1, help="With --plan: also for so many images like these.", metavar="N"),
    ] = None,
    model: Annotated[
        str | None,
        options.model_option(
            "mini, ARCHITECTURE:TAG, hf-hub:ORG/NAME, local-dir:PATH or blip:PATH; see lsn models.",
            "the store's, else ViT-B-16-quickgelu:openai",
            panel=None,
        ),
    ] = None,
    pretrained: options.Pretrained = "",
    precision: Annotated[
        str | None,
        typer.Option(
            help="Of the image tower: fp32, fp16, bf16, int8 (ViTs on a CPU) or tf32 (CUDA).",
            show_default="the store's, else fp32",
            rich_help_panel=options.MODEL_PANEL,
        ),
    ] = None,
    decode: Annotated[
        str | None,
        typer.Option(
            help="exact or fast: sooner, within 2 of 255 grey levels.",
            show_default="the store's, else exact",
            rich_help_panel=options.MODEL_PANEL,
        ),
    ] = None,
    device: options.Device = "auto",
    runtime: options.Runtime = "auto",
    batch_size: options.BatchSize = 0,
    workers: options.Workers = 0,
    engine: engines.Engine = "local",
    processes: engines.Processes = 0,
    ray_address: engines.RayAddress = "",
    part_rows: engines.PartRows = 0,
    no_merge: engines.NoMerge = False,
    timeout: options.Timeout = None,
    image_timeout: options.ImageTimeout = None,
    work: options.WorkFolder = options.DEFAULT_WORK,
    format: options.Format = "table",
    output: options.Output = None,
    quiet: options.Quiet = False,
) -> None:
    """Encode images into features, once; an interrupted run resumes.

    Examples:
        lsn extract ./photos                    # one folder per class
        lsn extract ./photos-test --split test
        lsn extract ./photos --model mini       # the bundled small model
        lsn extract ./photos --plan             # how long it takes, how much space

    A folder with one folder per class is labelled by it; images beside these have no class, which is said.
    Unreadable images are recorded.
    """
    from lsncli.backbones import on_runtime
    from lsncli.device import apply_precision, check_native, pick_device
    from lsncli.extraction import extract as use
    from lsncli.images.columns import Columns
    from lsncli.images.listing import named, short_classes, take_shots

    options.set_timeouts(timeout, image_timeout)
    if plan_for is not None and not plan:
        raise UsageError("--for says how many images --plan is for.", "Add --plan.")
    place = Workspace(work)
    # A plan is measured by one process, whatever the engine.
    group = None if plan else engines.group_for(engine, processes, ray_address, device, context.params)
    if group is not None and group.rank:
        engines.share(
            group,
            place,
            split,
            pretrained=pretrained,
            workers=workers,
            overwrite=overwrite,
            merge=not no_merge,
            quiet=quiet,
        )
        return
    source = named(sources)
    with engines.planning(group, place, split):
        columns = Columns(path_column, label_column)
        listing = options.list_sources(sources, columns, follow_links=follow_links, quiet=quiet)
        if not listing.folders and listing.items:
            say(without_classes(split, sources), quiet=quiet)
        if shots is not None:
            short = short_classes(listing, shots)
            listing = take_shots(listing, shots, seed)
            if short:
                name = printable(short[0])
                say(f"{len(short)} classes have fewer than {shots} images, such as '{name}'.", quiet=quiet)
        # A group's processes load the model themselves; this one needs only its fingerprint.
        model_device = "cpu" if group is not None and not retry_failed else device
        with options.loading(quiet):
            backbone = model_for(place, model, pretrained, precision, model_device, decode)
        if engine != "ray":  # whose machines may have other devices
            check_native(precision or "", device)
            apply_precision(backbone.fingerprint.precision, pick_device(device))
            if runtime == "auto" and pick_device(device).type != "cpu":
                runtime = "torch"  # this process may have loaded the model on the CPU
        backbone = on_runtime(backbone, runtime)
        if plan:
            show(
                listing,
                backbone,
                store=place.features,
                source=source,
                also_for=plan_for,
                batch_size=options.images_at_once(batch_size, device),
                part_rows=part_rows,
                workers=options.threads(workers),
                format=format,
                output=output,
                quiet=quiet,
            )
            return
        with progress_bar(
            f"extracting {split}", engines.images(group, len(listing.items)), quiet=quiet
        ) as progress:
            result = use.extract(
                listing,
                store=place.features,
                split=split,
                backbone=backbone,
                batch_size=options.images_at_once(batch_size, device),
                workers=workers,
                names_file=classes,
                overwrite=overwrite,
                retry_failed=retry_failed,
                max_failure_rate=max_failure_rate,
                part_rows=part_rows,
                merge=not no_merge,
                group=group,
                record=place.extraction(split),
                source=source,
                progress=progress,
                remark=remarks(quiet),
            )
    row = {
        "split": result.split,
        "rows": result.rows,
        "classes": len(listing.folders),
        "failures": len(result.failures),
        "resumed": result.resumed,
        "images_per_second": result.images_per_second,
        "device": ", ".join(result.devices) or None,
        **asdict(result.seconds),
    }
    shown = COLUMNS if group is None or result.finished else engines.of_share(group, COLUMNS)
    render([row], shown if FORMATS[format].narrow else shown + ALL_STAGES, format, output)
    if result.images_per_second and verbose():
        spent = ", ".join(f"{stage} {value:.1f}" for stage, value in asdict(result.seconds).items())
        summed = "threads that work at once" if group is None else "threads and processes that work at once"
        runtime = f", runtime {result.runtime}" if result.runtime else ""
        say(f"Seconds, summed over {summed}: {spent}. Encoded on {row['device']}{runtime}.", quiet=quiet)
    if not result.finished:
        engines.say_unfinished(split, work, merge=not no_merge, quiet=quiet)
        return
    made_by = backbone.fingerprint
    say(f"{place.features}: features of {made_by if verbose() else made_by.model}", quiet=quiet)
    if result.already:
        say(f"Split '{split}' was complete; --overwrite extracts it again.", quiet=quiet)
    if listing.skipped:
        say(listing.skipped, quiet=quiet)
    if result.failures:
        say(f"{len(result.failures)} images failed: lsn store info --failures --work {work}", quiet=quiet)


def without_classes(split: str, sources: Sequence[Path]) -> str:
    """Return a remark that a split has no labels, with what to do if it should have."""
    text = (
        f"Split '{split}' has no classes: use it as OOD images or score it; nothing can be learned from it. "
    )
    parents = {source.parent for source in sources if source.is_dir()}
    if len(sources) > 1 and len(parents) == 1:
        return text + f"If these folders are classes, name the folder that holds them: {parents.pop()}"
    return text + "To have classes, use one folder per class."


def model_for(
    place: Workspace,
    model: str | None,
    pretrained: str,
    precision: str | None,
    device: str,
    decode: str | None = None,
) -> "Backbone":
    """Load the requested model; options that are not given are the store's, else the defaults.

    Another precision or decoding than the store's is another model: it is loaded, and the store then refuses
    it.
    """
    from lsncli.backbones import DEFAULT_MODEL, load_again, load_backbone
    from lsncli.store.reader import read_fingerprint

    stored = read_fingerprint(place.features) if place.features.is_file() else None
    if model is None and stored is not None:
        if precision in (None, stored.precision) and decode in (None, stored.decode):
            return load_again(stored, pretrained=pretrained, device=device)
        model, pretrained = stored.model, pretrained or stored.pretrained
    return load_backbone(
        model or DEFAULT_MODEL,
        pretrained=pretrained,
        device=device,
        precision=precision or (stored.precision if stored is not None else "") or "fp32",
        decode=decode or (stored.decode if stored is not None else "exact"),
    )
