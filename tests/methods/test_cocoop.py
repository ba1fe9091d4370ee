"""CoCoOp prompts through calibration, evaluation and the scoring of images."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cocoop_samples import count_rows, no_model, text_of, write_prompts
from workspace_samples import CLASSES, clusters, workspace

from lsncli.artefacts.detector import load_detector
from lsncli.artefacts.prompts import Conditional
from lsncli.detection.calibrate import known_rows, make_detector
from lsncli.detection.detect import detect
from lsncli.evaluation.evaluate import choose_splits, evaluate, plan_evaluation
from lsncli.images.listing import list_images
from lsncli.methods.heads import head_from
from lsncli.methods.spec import parse_method
from lsncli.methods.workspace import Workspace
from lsncli.metrics import evaluate_scores
from lsncli.scores import load_score, score_in_chunks
from lsncli.store.reader import read_split
from lsncli.store.writer import write_split
from lsncli.types import unit

METHODS = ("mcm", "mcm:positive", "lsn", "mincm", "energy:positive", "lsn:hand", "knn,k=3")


@pytest.fixture
def work(tmp_path: Path, tiny_backbone) -> Workspace:
    made = workspace(tmp_path / "work", tiny_backbone.fingerprint)
    write_prompts(made, tiny_backbone, "positive", "cocoop", 2)
    write_prompts(made, tiny_backbone, "negative", "cocoop", 2)
    return made


def run(work: Workspace, backbone, *methods: str, **options):
    inside, outside = choose_splits(work, "test", ("far", "near"), "train")
    model = options.pop("model", lambda: backbone)
    chosen = [parse_method(text) for text in methods]
    return evaluate(
        plan_evaluation(work, chosen, inside, outside, "train", model=model, keep=False), **options
    )


def test_lsn_by_hand(tmp_path: Path, tiny_backbone) -> None:
    work = workspace(tmp_path, tiny_backbone.fingerprint)
    positive = write_prompts(work, tiny_backbone, "positive", "cocoop", 2)
    negative = write_prompts(work, tiny_backbone, "negative", "cocoop", 2)

    def softmax(values: np.ndarray) -> np.ndarray:
        return np.exp(values) / np.exp(values).sum()

    def scores(name: str) -> np.ndarray:
        found = []
        for x in read_split(work.features, name).features:
            yes = unit(text_of(tiny_backbone, positive, x).mean(axis=0)) @ unit(x)
            no = text_of(tiny_backbone, negative, x) @ unit(x)
            found.append(softmax(yes).max() - np.mean([softmax(one / 5).min() for one in no]))
        return np.array(found)

    result = run(work, tiny_backbone, "lsn").results[0]
    expected = evaluate_scores(scores("test"), scores("far"))
    assert result.metrics.auroc == pytest.approx(expected.auroc, abs=1e-9)
    assert result.metrics.fpr95 == pytest.approx(expected.fpr95, abs=1e-9)


def test_every_method_is_evaluated_and_named_after_its_learners(work, tiny_backbone) -> None:
    found = run(work, tiny_backbone, *METHODS)
    assert found.failed == ()
    assert list(dict.fromkeys(result.label for result in found.results)) == [
        "MCM",
        "CoCoOp + MCM",
        "CoCoOp + LSN",
        "CoCoOp + MinCM",
        "CoCoOp + energy",
        "LSN (CoCoOp negatives)",
        "knn,k=3",
    ]


def test_an_image_is_encoded_once_whatever_the_number_of_methods(work, tiny_backbone, monkeypatch) -> None:
    encoded = count_rows(monkeypatch)
    rows = 21 + 12 + 9
    run(work, tiny_backbone, *METHODS)
    assert sum(encoded) == 2 * rows  # with the positive prompts and with the negative ones


def test_a_long_evaluation_streams_and_ticks_a_few_rows_at_a_time(work, tiny_backbone, monkeypatch) -> None:
    write_split(work.features, clusters("many", 150, seed=4), tiny_backbone.fingerprint)
    encoded, ticks = count_rows(monkeypatch), []
    inside, outside = choose_splits(work, "many", ("far",), "train")
    methods, model = [parse_method("mcm:positive")], lambda: tiny_backbone
    plan = plan_evaluation(work, methods, inside, outside, "train", model=model, keep=False)
    evaluate(plan, progress=lambda n, note="": ticks.append((n, note)))
    assert encoded == [64, 64, 22, 12]
    notes = ["many", "many", "many", "far"]
    assert ticks == [(n, f"mcm:positive on {on}") for n, on in zip((64, 64, 22, 12), notes, strict=True)]


def test_fixed_prompts_beside_cocoop_ones_ask_for_no_model(work, tiny_backbone) -> None:
    write_prompts(work, tiny_backbone, "positive", "coop")
    found = run(work, tiny_backbone, "mcm:positive", "knn:positive,k=3", model=no_model)
    assert [result.label for result in found.results[::3]] == ["CoOp + MCM", "CoOp + knn,k=3"]


@pytest.mark.parametrize("method", ["mcm:positive", "lsn", "mincm,form=official", "msp:positive", "lsn:hand"])
def test_a_detector_keeps_the_target_however_rows_are_batched(work, tiny_backbone, method) -> None:
    write_split(work.features, clusters("many", 300, seed=8), tiny_backbone.fingerprint)
    make_detector(work, parse_method(method), split_name="many", target_tpr=0.8, model=lambda: tiny_backbone)
    detector = load_detector(work.detector)
    scorer = load_score(detector.method, **detector.settings).scorer(
        head_from(detector.head, lambda: tiny_backbone), detector.learned
    )
    held = known_rows(work, read_split(work.features, "many")).held_out.features
    for chunk in (1, 7, 60):
        kept = np.mean(score_in_chunks(scorer, held, chunk) >= detector.threshold.gamma)
        assert kept == 0.8


def test_calibration_ticks_the_rows_it_scores(work, tiny_backbone) -> None:
    ticks: list[int] = []
    make_detector(
        work, parse_method("lsn"), model=lambda: tiny_backbone, progress=lambda n, note="": ticks.append(n)
    )
    assert sum(ticks) == 6


@pytest.mark.parametrize(
    ("positive", "negative", "label"),
    [
        ("cocoop", "cocoop", "CoCoOp + LSN"),
        ("cocoop", "coop", "CoCoOp + LSN (CoOp negatives)"),
        ("coop", "cocoop", "CoOp + LSN (CoCoOp negatives)"),
    ],
)
def test_a_detector_is_whole_without_its_workspace(
    tmp_path, tiny_backbone, positive, negative, label
) -> None:
    work = workspace(tmp_path / "work", tiny_backbone.fingerprint)
    write_prompts(work, tiny_backbone, "positive", positive, 2)
    write_prompts(work, tiny_backbone, "negative", negative, 2)
    made = make_detector(work, parse_method("lsn"), model=lambda: tiny_backbone)
    features = read_split(work.features, "test").features
    before = load_score("lsn").scorer(head_from(made.head, lambda: tiny_backbone), {})(features)
    loaded = load_detector(work.detector.rename(tmp_path / "alone.safetensors"))
    assert (loaded.label, loaded.head.classes) == (label, CLASSES)
    assert isinstance(loaded.head.weights, Conditional) == (positive == "cocoop")
    assert isinstance(loaded.head.negative, Conditional) == (negative == "cocoop")
    after = load_score("lsn").scorer(head_from(loaded.head, lambda: tiny_backbone), {})(features)
    np.testing.assert_array_equal(after, before)


def test_verdicts_on_images_are_those_of_their_features(work, tiny_backbone, tmp_path) -> None:
    from PIL import Image

    (tmp_path / "photos").mkdir()
    for i in range(5):
        noise = np.random.default_rng(i).integers(0, 255, (40, 48, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / "photos" / f"{i}.png")
    (tmp_path / "photos" / "3.png").write_bytes(b"")
    detector = make_detector(work, parse_method("lsn"), model=lambda: tiny_backbone)
    listing = list_images([tmp_path / "photos"])

    def verdicts(batch_size: int):
        stream = detect(listing, detector, tiny_backbone, batch_size=batch_size, workers=1)
        return [one for _, batch in stream for one in batch]

    found, alone = verdicts(4), verdicts(1)
    assert [Path(one.path).name for one in found] == [f"{i}.png" for i in range(5)]
    good = [one for one in found if not one.error]
    assert len(good) == 4
    pixels = [
        tiny_backbone.preprocess(Image.open(tmp_path / "photos" / f"{i}.png").convert("RGB"))
        for i in (0, 1, 2, 4)
    ]
    import torch

    scorer = load_score("lsn").scorer(head_from(detector.head, lambda: tiny_backbone), {})
    expected = scorer(tiny_backbone.encode(torch.stack(pixels)))
    assert [one.score for one in good] == pytest.approx(expected.tolist(), abs=1e-5)
    assert [one.score for one in alone if not one.error] == pytest.approx(expected.tolist(), abs=1e-5)
    assert {one.predicted for one in good} <= set(CLASSES)


def test_a_broken_row_fails_the_methods_that_look_at_it(work, tiny_backbone) -> None:
    inside, outside = choose_splits(work, "test", ("far", "near"), "train")
    broken = outside[1].features.copy()
    broken[3] = np.inf
    methods = [parse_method("mcm:positive"), parse_method("mcm")]
    outside = [outside[0], replace(outside[1], features=broken)]
    plan = plan_evaluation(work, methods, inside, outside, "train", model=lambda: tiny_backbone)
    found = evaluate(plan)
    assert found.results == ()
    assert all("1 of 9 feature rows" in reason for _, reason in found.failed)
