"""What a report is made of: the same verdicts as `lsn score`, true classes, calibration, pictures, notes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from photo_samples import photos
from workspace_samples import CLASSES, NEG, POS, clusters, workspace

from lsncli.artefacts.detector import load_detector
from lsncli.detection.calibrate import make_detector
from lsncli.detection.detect import detect
from lsncli.detection.scored_sets import Scorer
from lsncli.errors import FingerprintMismatch, LsnError, UsageError
from lsncli.extraction.extract import extract
from lsncli.images.listing import list_images
from lsncli.methods.spec import parse_method
from lsncli.methods.workspace import Workspace
from lsncli.report.contents import SetRequest, make_report, set_on, want_images, want_split
from lsncli.report.page.data import page_data
from lsncli.store.reader import read_fingerprint, read_split
from lsncli.threshold import uncalibrated
from lsncli.training.prompts import plan_negative, plan_positive, train_prompts
from lsncli.types import unit

COUNT = 10


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return photos(tmp_path_factory.mktemp("report") / "photos", COUNT, broken=3)


@pytest.fixture(scope="module")
def made(folder: Path, tmp_path_factory, tiny_backbone):
    work = Workspace(tmp_path_factory.mktemp("work"))
    extract(
        list_images([folder]),
        source=str(folder),
        store=work.features,
        split="train",
        backbone=tiny_backbone,
        max_failure_rate=1,
    )
    detector = make_detector(work, parse_method("mcm"), target_tpr=0.6, model=lambda: tiny_backbone)
    return work, Scorer(detector, lambda: tiny_backbone, batch_size=4, workers=2)


def test_scores_are_those_of_lsn_score(made, folder, tiny_backbone) -> None:
    work, scorer = made
    report = make_report([want_images("images", "input", [folder])], work, scorer)
    (one,) = report.sets
    stream = detect(list_images([folder]), scorer.detector, tiny_backbone, batch_size=4, workers=2)
    found = [each for _, batch in stream for each in batch]
    verdicts = [each for each in found if each.error is None]
    assert np.array_equal(one.judged.scores, [each.score for each in verdicts])
    names = [scorer.detector.head.classes[label] for label in one.judged.predicted]
    assert names == [each.predicted for each in verdicts]
    assert [one.path(row) for row in range(len(verdicts))] == [each.path for each in verdicts]
    assert [(each.key, each.reason) for each in one.failures] == [
        (each.path, each.error) for each in found if each.error is not None
    ]
    assert (len(one.judged), report.failed) == (27, 3)
    assert (one.judged.positive, one.judged.negative) == (None, None)
    assert set(one.labels) == {-1}
    assert list(report.listed[0]) == list(range(27))
    assert sorted(report.pictures[0]) == list(range(27))
    assert all(data.startswith(b"\xff\xd8") for data in report.pictures[0].values())


def test_class_folders_of_id_images_are_true_classes_by_name(made, folder, tmp_path) -> None:
    work, scorer = made
    other = photos(tmp_path / "other", 2)
    (other / "middle").rename(other / "unheard of")
    (one,) = make_report([want_images("mine", "id", [other])], work, scorer).sets
    classes = scorer.detector.head.classes
    truth = [classes[label] if label >= 0 else None for label in one.labels]
    assert truth == ["left", "left", "right", "right", None, None]


def test_only_images_known_to_be_id_need_classes(folder, tmp_path) -> None:
    path = tmp_path / "l.csv"
    path.write_text("img,label,breed\n0.jpg,1,cat\n")
    for kind in ("input", "ood"):
        assert len(want_images("images", kind, [path])) == 1
    with pytest.raises(UsageError, match="'label', 'breed'"):
        want_images("images", "id", [path])


def test_a_split_has_the_scores_of_its_images_and_their_pictures(made, folder) -> None:
    work, scorer = made
    wanted = [want_images("images", "input", [folder]), want_split(work, "train", "id")]
    report = make_report(wanted, work, scorer, pictures=10)
    listed, stored = report.sets
    assert np.allclose(listed.judged.scores, stored.judged.scores, rtol=1e-3)
    assert [len(one) for one in report.pictures] == [5, 5]
    assert stored.path(0) == read_split(work.features, "train").keys[0]
    assert [scorer.detector.head.classes[label] for label in stored.labels[[0, -1]]] == ["left", "right"]
    assert len(stored.failures) == 3


def test_a_split_whose_images_are_gone_is_shown_without_pictures(made, tmp_path) -> None:
    work, scorer = made
    split = replace(read_split(work.features, "train"), source=str(tmp_path / "gone"))
    report = make_report([SetRequest("train", "id", split.source, split)], work, scorer)
    assert report.pictures == ({},)
    assert any("The images of train are not where they were" in note for note in report.notes)
    moved = photos(tmp_path / "moved", COUNT)
    report = make_report([SetRequest("train", "id", split.source, split, [moved])], work, scorer)
    assert len(report.pictures[0]) == 27
    with pytest.raises(LsnError, match="are not in"):
        make_report([SetRequest("train", "id", "", split, [photos(tmp_path / "few", 1)])], work, scorer)


def test_calibration_is_the_rows_that_set_gamma(made, folder) -> None:
    work, scorer = made
    wanted = [want_images("images", "input", [folder])]
    report = make_report(wanted, work, scorer)
    threshold = scorer.detector.threshold
    assert len(report.calibration) == threshold.n == 6
    assert report.same_rows
    assert (report.calibration.scores >= threshold.gamma).mean() >= threshold.target_tpr
    raised = replace(scorer.detector, threshold=replace(threshold, gamma=threshold.gamma + 0.1))
    assert not set_on(report.calibration, raised)
    assert not set_on(report.calibration, replace(raised, threshold=uncalibrated(threshold.gamma)))
    assert not set_on(None, scorer.detector)
    older = replace(scorer, detector=replace(scorer.detector, held_out=None))
    assert make_report(wanted, work, older).same_rows
    for place, train in ((work, "absent"), (Workspace(folder), "train")):  # the detector has the scores
        found = make_report(wanted, place, scorer, train=train)
        np.testing.assert_allclose(found.calibration.scores, np.sort(report.calibration.scores), rtol=1e-9)
        assert (found.calibration.positive, found.same_rows) == (None, True)
        assert page_data(found)["calibration"]["count"] == 6
        assert make_report(wanted, place, older, train=train).calibration is None


def test_doubts_about_the_threshold_are_told(made, folder) -> None:
    work, scorer = made
    detector = replace(scorer.detector, threshold=uncalibrated(0.4))
    wanted = [want_images("images", "input", [folder])]
    report = make_report(wanted, work, replace(scorer, detector=detector))
    assert detector.threshold.doubt in report.notes
    assert ("Threshold γ", "0.4, uncalibrated") in report.facts


def test_parts_of_lsn_add_up_to_the_score(tiny_backbone, tmp_path) -> None:
    work = workspace(tmp_path / "work", tiny_backbone.fingerprint)
    train_prompts(work, tiny_backbone, plan_positive(work), POS)
    train_prompts(work, tiny_backbone, plan_negative(work), NEG)
    scorer = Scorer(load_detector(work.detector), lambda: tiny_backbone)
    sets = [want_split(work, "test", "id"), want_split(work, "far", "ood")]
    report = make_report(sets, work, scorer)
    assert report.same_rows
    for one in (*[each.judged for each in report.sets], report.calibration):
        assert one.positive + one.negative == pytest.approx(one.scores, abs=1e-15)
        assert len(np.unique(one.negative)) > 3
    assert list(report.sets[0].labels) == [row % len(CLASSES) for row in range(21)]
    assert set(report.sets[1].labels) == {-1}
    assert len(report.sets[1].judged) == len(clusters("far", 12).labels)


def test_features_of_another_model_are_refused(made, tiny_backbone) -> None:
    work, scorer = made
    other = replace(tiny_backbone.fingerprint, weights="ff")
    detector = replace(scorer.detector, fingerprint=other)
    assert read_fingerprint(work.features).digest != other.digest
    with pytest.raises(FingerprintMismatch, match="another model"):
        make_report([want_split(work, "train", "id")], work, replace(scorer, detector=detector))


def test_nearest_training_images_are_named_of_every_picture(made, folder) -> None:
    work, scorer = made
    split = read_split(work.features, "train")
    wanted = [want_images("images", "input", [folder]), want_split(work, "train", "id")]
    report = make_report(wanted, work, scorer, pictures=20)
    listed, stored = report.nearest
    assert [set(one) for one in report.nearest] == [set(one) for one in report.pictures]
    directions = unit(split.features)
    for row, like in listed.items():  # the same images that the split was made of: each finds itself
        assert (like[0].key, round(like[0].cosine, 3)) == (report.sets[0].items[row].key, 1)
    for row, like in stored.items():
        cosines = directions @ directions[row]
        cosines[row] = -2
        assert split.keys[row] not in [one.key for one in like]
        assert [one.cosine for one in like] == pytest.approx(np.sort(cosines)[::-1][:3])
    assert make_report(wanted[:1], work, scorer, train="absent").nearest == ()
    assert make_report(wanted[:1], work, scorer, pictures=0).nearest == ({},)


def test_some_pictures_are_looked_into(made, folder) -> None:
    work, scorer = made
    wanted = [want_images("images", "input", [folder])]
    report = make_report(wanted, work, scorer, pictures=12, explained=4)
    (looks,) = report.maps
    assert len(looks) == 4
    assert set(looks) <= set(report.pictures[0])
    classes, predicted = scorer.detector.head.classes, report.sets[0].judged.predicted
    assert all(one.predicted == classes[predicted[row]] for row, one in looks.items())
    assert make_report(wanted, work, scorer).maps == ({},)


def test_what_cannot_be_looked_into_is_a_note_and_no_error(made, folder) -> None:
    work, scorer = made
    source = replace(scorer.detector.head, weights=np.eye(3, 32))
    blind = replace(scorer.detector, head=source)

    class Blind:
        def __getattr__(self, name: str):
            if name == "relevance":
                raise LsnError("This tower is dark.")
            return getattr(scorer.model(), name)

    wanted = [want_images("images", "input", [folder])]
    report = make_report(wanted, work, replace(scorer, detector=blind, model=Blind), explained=2)
    assert report.maps == ({},)
    assert "There are no heat maps: This tower is dark." in report.notes
