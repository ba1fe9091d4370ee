"""Rebuild ``lsncli/reference/mini_features.h5``: the features of the suite ``mini`` and of ``lsn demo``.

    python -m benchmarks.mini.suite_store --images DIR

DIR (or LSN_IMAGES) holds the suite's image sets, each a folder or a tar (``lsn datasets --suite mini``).
All sets of the tables are in it except CIFAR's, whose 40,000 images would be too large for the package.
"""

import argparse
import os
import shutil
import tempfile
from pathlib import Path

from lsncli.bench.extraction import Extract, extract_set
from lsncli.bench.subsets import Subset
from lsncli.bench.suite_toml import load_suite
from lsncli.bench.suite_workspace import SuiteWorkspace
from lsncli.console import progress_bar

LEFT_OUT = "cifar"
TARGET = Path(__file__).parents[2] / "lsncli" / "reference" / "mini_features.h5"


def main() -> None:
    """Extract every set again."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--images", type=Path, default=os.environ.get("LSN_IMAGES"))
    images = parser.parse_args().images
    if images is None:
        parser.error("name the folder of the image sets with --images or LSN_IMAGES")
    suite = load_suite("mini")
    names = [name for name, tables in suite.tables_by_set().items() if tables and LEFT_OUT not in name]
    with tempfile.TemporaryDirectory() as folder:
        suite_work = SuiteWorkspace(
            Path(folder), suite.name, suite.model, Path(images), device="cpu", sets=suite.sets
        )
        for name in names:
            job = Extract(Subset(name), "", suite_work)
            with progress_bar(name, job.images) as progress:
                print(f"{name}: {extract_set(job, progress)} images", flush=True)
        shutil.copyfile(suite_work.workspace("").features, TARGET)
    print(f"{TARGET}: {TARGET.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
