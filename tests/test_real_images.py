"""The mini model on real test images, and the paper's whole way on them (needs LSN_IMAGES)."""

import json
import os
from pathlib import Path

import pytest
from cli_runner import exit_code

IMAGES = os.environ.get("LSN_IMAGES", "")
LSN = "CoOp + LSN,form=logit"
NEEDED = ("imagenette-train", "imagenette-val", "textures-dtd10")

pytestmark = pytest.mark.skipif(
    not all((Path(IMAGES) / f"{name}.tar").is_file() for name in NEEDED),
    reason=f"LSN_IMAGES must name a folder with {', '.join(f'{name}.tar' for name in NEEDED)}",
)


def run(*argv: str) -> None:
    assert exit_code(*argv, "--quiet") == 0


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Imagenette against textures, twenty images of each class, learned with short schedules."""
    work = str(tmp_path_factory.mktemp("work"))
    for split, name in zip(("train", "test", "textures"), NEEDED, strict=True):
        source = str(Path(IMAGES) / f"{name}.tar")
        run("extract", source, "--split", split, "--shots", "20", "--model", "mini", "--work", work)
    run("train-pos", "--work", work, "--epochs", "10", "--batch-size", "32", "--rate", "0.02")
    run("train-neg", "--work", work, "--epochs", "10", "--batch-size", "32", "--rate", "0.002")
    return work


@pytest.fixture(scope="module")
def table(work: str) -> dict[str, dict[str, float]]:
    output = Path(work) / "eval.json"
    methods = ["mcm", "mcm:positive", "lsn", "msp", "maxlogit", "energy", "knn,k=5"]
    chosen = [word for name in methods for word in ("--method", name)]
    run("eval", "--work", work, *chosen, "--format", "json", "--output", str(output))
    return {row["method"]: row for row in json.loads(output.read_text())}


def test_every_method_tells_textures_from_photos_of_the_classes(table) -> None:
    assert set(table) == {"MCM", "CoOp + MCM", LSN, "msp", "maxlogit", "energy", "knn,k=5"}
    for name, row in table.items():
        assert row["auroc"] > 0.7, f"{name}: AUROC {row['auroc']:.3f}"


def test_the_mini_model_knows_imagenette(table) -> None:
    assert table["MCM"]["id_accuracy"] > 0.85
    assert table["CoOp + MCM"]["id_accuracy"] > 0.85


def test_the_detector_keeps_most_of_id_and_refuses_most_textures(work, capsys) -> None:
    refused = {}
    for split in ("test", "textures"):
        exit_code("score", "--split", split, "--work", work, "--format", "jsonl", "-q")
        rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert len(rows) == 200
        refused[split] = sum(row["is_ood"] for row in rows) / len(rows)
    assert refused["test"] < 0.25
    assert refused["textures"] > 0.3
