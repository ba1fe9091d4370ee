"""The head of CLIPN: from a learned encoder, or from two matrices."""

from dataclasses import replace

import numpy as np
import pytest
from workspace_samples import CLASSES, clusters

from lsncli.artefacts.detector import load_detector
from lsncli.artefacts.heads import NoTower
from lsncli.backbones.text import openai_templates
from lsncli.detection.calibrate import make_detector
from lsncli.errors import FingerprintMismatch, LsnError
from lsncli.interchange.tables import FeatureTable, read_table
from lsncli.methods.heads import load_checked_head, make_head
from lsncli.methods.holdout import labelled_split
from lsncli.methods.spec import parse_method
from lsncli.prompts.clipn import PROMPTS, text_rows
from lsncli.store.writer import write_split
from lsncli.training.clipn import count_texts, import_head, write_tower_head
from lsncli.types import unit


@pytest.fixture
def tower(tiny_backbone) -> NoTower:
    """The text encoder as it is, but for a "no" prompt."""
    random = np.random.default_rng(3)
    weights = {name: t.numpy() for name, t in tiny_backbone.text_function().weights.items()}
    weights[PROMPTS] = random.normal(size=(2, 40, 32)).astype(np.float32)
    return NoTower(tiny_backbone.fingerprint, weights, {"epochs": 1}, 20, (), (2.0,))


@pytest.mark.parametrize(
    ("templates", "texts"), [("hand", ("a photo of a {}".format,)), ("ensemble", openai_templates())]
)
def test_both_encoders_read_the_same_templates(work, tiny_backbone, tower, templates, texts) -> None:
    ticks = []
    head = write_tower_head(
        work,
        tiny_backbone,
        tower,
        CLASSES,
        templates=templates,
        progress=lambda step, note="": ticks.append(step),
    )
    function = tiny_backbone.text_function()
    import torch

    weights = {name: torch.from_numpy(array) for name, array in tower.weights.items()}
    for rows, found in ((function.weights, head.weights), (weights, head.negative[0])):
        each = [unit(text_rows(function, rows, [text(name) for name in CLASSES]).numpy()) for text in texts]
        np.testing.assert_allclose(found, unit(np.sum(each, axis=0)), rtol=0, atol=2e-6)
    assert sum(ticks) == count_texts(templates, CLASSES) == len(texts) * 3
    saved = load_checked_head(work, "clipn")
    assert np.array_equal(saved.negative, head.negative)
    assert (saved.classes, saved.scale, saved.held_out, saved.history) == (CLASSES, 100.0, None, (2.0,))
    assert saved.settings == {"templates": templates, "epochs": 1}


def test_methods_find_the_head_and_a_detector_keeps_it(work, tiny_backbone, tower) -> None:
    made = write_tower_head(work, tiny_backbone, tower, CLASSES, templates="hand")
    for text in ("clipn", "lsn:clipn", "dualcoop:clipn", "mcm:clipn"):
        make_detector(work, parse_method(text))
        detector = load_detector(work.detector)
        assert detector.head_name == "clipn"
        np.testing.assert_array_equal(detector.head.weights, made.weights)
        np.testing.assert_array_equal(detector.head.negative, made.negative)
    assert make_head(work, "clipn", CLASSES, negatives=True).scale == 100.0


def test_an_encoder_of_another_model_is_a_mismatch(work, tiny_backbone, tower) -> None:
    other = replace(tower, fingerprint=replace(tower.fingerprint, weights="00" * 32))
    with pytest.raises(FingerprintMismatch, match="made from another model"):
        write_tower_head(work, tiny_backbone, other, CLASSES)


def test_an_encoder_with_other_weights_is_refused(work, tiny_backbone, tower) -> None:
    less = {name: array for name, array in tower.weights.items() if "ln_final" not in name}
    turned = tower.weights | {PROMPTS: tower.weights[PROMPTS][:, :5]}
    for weights in (less, turned):
        with pytest.raises(LsnError, match="not those of such a text encoder"):
            write_tower_head(work, tiny_backbone, replace(tower, weights=weights), CLASSES, templates="hand")


def matrices(sets: int = 0) -> tuple[FeatureTable, FeatureTable]:
    random = np.random.default_rng(1)
    shape = (sets, 3, 32) if sets else (3, 32)
    return FeatureTable(5 * random.normal(size=(3, 32))), FeatureTable(
        random.normal(size=shape).astype(np.float16)
    )


@pytest.mark.parametrize("sets", [0, 2])
def test_two_matrices_become_unit_rows_in_the_stores_order(work, sets) -> None:
    yes, no = matrices(sets)
    import_head(work, yes, no, CLASSES)
    saved = load_checked_head(work, "clipn")
    np.testing.assert_allclose(saved.weights, unit(yes.features))
    np.testing.assert_allclose(saved.negative, unit(no.features).reshape(-1, 3, 32))
    assert saved.settings == {"templates": "imported"}
    make_detector(work, parse_method("clipn,form=ctw"))


def test_a_file_may_name_its_classes(work, tmp_path) -> None:
    yes, no = matrices()
    for name, table in (("yes", yes), ("no", no)):
        np.savez(tmp_path / f"{name}.npz", features=table.features, classes=np.array(CLASSES))
    import_head(work, read_table(tmp_path / "yes.npz"), read_table(tmp_path / "no.npz"), CLASSES)
    turned = replace(yes, classes=CLASSES[::-1])
    with pytest.raises(LsnError, match="'yes' text features name other classes, or in another order"):
        import_head(work, turned, no, CLASSES)


@pytest.mark.parametrize(
    ("yes", "no", "message"),
    [
        (np.ones((2, 32)), None, r"'yes' .* expected 3 classes x 32 dimensions, found the shape \(2, 32\)"),
        (np.ones((1, 3, 32)), None, "'yes' .* found the shape"),
        (None, np.ones((3, 31)), "'no' .* found the shape"),
        (None, np.ones((0, 3, 32)), "'no' .* found the shape"),
        (None, np.ones(3), "'no' .* found the shape"),
        (np.full((3, 32), np.nan), None, "'yes' text features hold NaN"),
        (None, np.eye(3, 32) * [[1], [0], [1]], "'no' text features hold NaN, infinity or a row of zeros"),
    ],
)
def test_matrices_that_cannot_be_right_are_refused(work, yes, no, message) -> None:
    good = matrices()
    found = [
        table if given is None else FeatureTable(given) for table, given in zip(good, (yes, no), strict=True)
    ]
    with pytest.raises(LsnError, match=message):
        import_head(work, *found, CLASSES)
    assert not work.head("clipn").exists()


def test_a_split_without_classes_is_refused(work, tiny_backbone) -> None:
    assert labelled_split(work, "train").classes == CLASSES
    write_split(work.features, clusters("bare", labelled=False), tiny_backbone.fingerprint)
    with pytest.raises(LsnError, match="Split 'bare' has no classes"):
        labelled_split(work, "bare")
