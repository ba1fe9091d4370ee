"""Features of the mini benchmark: eleven image sets, encoded once by the mini model.

    python -m benchmarks.mini.store [--images DIR] [--cache DIR]

DIR (or LSN_IMAGES) holds a tar for each set, laid out <set>/<class>/<file>. The features are in one store in
the cache folder (--cache, LSN_MINI_BENCH, or lsn-mini-bench in the user's cache), a split for each set. An
interrupted extraction resumes; afterwards the images are not needed.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

from lsncli import console
from lsncli.backbones import Backbone, load_again, load_backbone
from lsncli.errors import LsnError, Unavailable
from lsncli.extraction.extract import extract
from lsncli.images.listing import list_images
from lsncli.prompts.layout import TextTower
from lsncli.store.format import Split
from lsncli.store.reader import list_splits, read_fingerprint, read_split

SETS = (
    *("cifar10-train", "cifar10-test", "cifar100-train", "cifar100-test"),
    *("tinyimagenet-train", "tinyimagenet-val", "imagenette-train", "imagenette-val"),
    *("textures-dtd10", "places-natural13", "plants-flowers"),
)


def default_cache() -> Path:
    """Return LSN_MINI_BENCH, else ``lsn-mini-bench`` in the user's cache folder."""
    if named := os.environ.get("LSN_MINI_BENCH"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lsn-mini-bench"


def store_at(cache: Path) -> Path:
    """Return the path of the features in a cache folder."""
    return cache / "features.h5"


@lru_cache(maxsize=len(SETS))
def read_set(name: str, cache: Path) -> Split:
    """Return a set, from memory after the first time; extract it if it is not in the cache."""
    prepare([name], cache)
    return read_split(store_at(cache), name)


def prepare(names: Sequence[str], cache: Path, images: Path | None = None, *, quiet: bool = False) -> None:
    """Extract what is missing of the sets ``names``; ``images`` defaults to LSN_IMAGES.

    Raises Unavailable (exit code 5) if something is missing and no images are named, LsnError if a set there
    lacks an image.
    """
    store = store_at(cache)
    present = list_splits(store) if store.is_file() else {}
    for name in names:
        if name in present and present[name].failures:
            raise LsnError(
                f"{store}: {len(present[name].failures)} images of {name} could not be read.",
                "Repair the tar, remove the cache folder and run again.",
            )
    missing = [name for name in names if name not in present]
    if not missing:
        return
    if images is None and not os.environ.get("LSN_IMAGES"):
        raise Unavailable(
            f"The mini benchmark needs {len(missing)} image sets that are not in {cache}, "
            f"and LSN_IMAGES, the folder of their tars, is not set ({', '.join(missing)}).",
            "Set LSN_IMAGES, or name a cache that holds their features with --cache or LSN_MINI_BENCH.",
        )
    folder = images or Path(os.environ["LSN_IMAGES"])
    backbone = _backbone(cache)
    for name in missing:
        listing = list_images([folder / f"{name}.tar"])
        console.say(f"Extracting {name}: {len(listing.items)} images ...", quiet=quiet)
        with console.progress_bar(name, len(listing.items), quiet=quiet) as progress:
            extract(
                listing,
                source=f"{name}.tar",
                store=store,
                split=name,
                backbone=backbone,
                batch_size=16,
                workers=os.cpu_count() or 1,
                max_failure_rate=0,
                progress=progress,
            )


@lru_cache(maxsize=2)
def text_tower(cache: Path) -> TextTower:
    """Return the text tower of the model of the features. Raises FingerprintMismatch if the model changed."""
    return _backbone(cache).text_tower()


def logit_scale(cache: Path) -> float:
    """Return the logit scale of the model of the features."""
    return read_fingerprint(store_at(cache)).logit_scale


def exit_like_lsn(main: Callable[[], None]) -> None:
    """Run a benchmark's ``main``; print an LsnError as one sentence and exit with its code."""
    try:
        main()
    except LsnError as error:
        console.say(f"Error: {console.printable(str(error))}", style="bold red")
        sys.exit(error.exit_code)


def _backbone(cache: Path) -> Backbone:
    store = store_at(cache)
    if store.is_file():
        return load_again(read_fingerprint(store), device="cpu")
    return load_backbone("mini", device="cpu")


def main() -> None:
    """Extract everything."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--images", type=Path, help="folder of tars; default LSN_IMAGES")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="where features are kept")
    given = parser.parse_args()
    prepare(SETS, given.cache, given.images)
    for name, info in list_splits(store_at(given.cache)).items():
        console.out.print(f"{name:<20}{info.rows:>7} rows {len(info.classes):>4} classes")


if __name__ == "__main__":
    exit_like_lsn(main)
