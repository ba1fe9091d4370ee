"""``from lsncli import Detector``: the same verdicts as the command line's, from paths and from objects."""

import copy
import doctest
import json
import os
import pickle
import runpy
import subprocess
import sys
import warnings
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from cli_runner import exit_code
from pandas import DataFrame
from photo_samples import photos
from PIL import Image
from sklearn.base import clone, is_outlier_detector
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import lsncli
from lsncli import Detector, api, metrics
from lsncli.detection import detect
from lsncli.errors import LsnError, UsageError

EXAMPLE = Path(__file__).parents[1] / "examples" / "score_folder.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return photos(tmp_path_factory.mktemp("photos") / "all", 12, broken=3)


@pytest.fixture(scope="module")
def work(folder, tiny_model, tmp_path_factory) -> Path:
    """A workspace with an MCM detector of the three classes."""
    made = tmp_path_factory.mktemp("work")
    for argv in (["extract", folder, "--model", tiny_model, "--max-failure-rate", "1"], ["calibrate"]):
        method = ["--method", "mcm"] if argv == ["calibrate"] else []
        assert exit_code(*argv, *method, "--work", str(made), "-q") == 0
    return made


@pytest.fixture(scope="module")
def detector(work) -> Detector:
    return Detector.load(work, device="cpu", batch_size=5)


@pytest.fixture(autouse=True)
def quiet():
    """What drift and calibration warn of has tests of its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


def test_results_are_the_rows_of_lsn_score(detector, work, folder, capsys) -> None:
    exit_code("score", str(folder), "--work", str(work), "--format", "json", "-q", "--max-failure-rate", "1")
    rows = json.loads(capsys.readouterr().out)
    results = detector.score(folder)
    assert len(rows) == len(results) == 36
    assert sum(one.error is not None for one in results) == 3
    for row, one in zip(rows, results, strict=True):
        assert (row["path"], row["error"]) == (one.path, one.error)
        if one.error is None:
            assert (row["predicted"], row["is_ood"]) == (one.predicted, one.is_ood)
            assert row["score"] == pytest.approx(one.score, rel=1e-5)
            assert one.is_ood == (one.score < one.threshold)
        else:
            assert (one.score, one.predicted, one.is_ood, one.threshold) == (None,) * 4


def test_paths_objects_and_arrays_get_the_same_verdicts_in_any_iterable(detector, folder) -> None:
    files = [one.path for one in detector.score(folder) if one.error is None]
    expected = [one.score for one in detector.score(files)]
    images = [Image.open(path) for path in files]
    kinds = [
        map(Path, files),
        images,
        (np.array(image) for image in images),
        np.stack([np.array(image) for image in images]),
    ]
    for kind in kinds:
        results = detector.score(kind)
        assert [one.score for one in results] == pytest.approx(expected, rel=1e-5)
    assert [one.path for one in detector.score(map(Path, files))] == files
    assert {one.path for one in detector.score(images)} == {None}
    assert detector.score([]) == []


def test_an_image_that_cannot_be_read_is_a_result_with_its_reason(detector, folder) -> None:
    good = np.array(Image.open(folder / "left" / "0.png"))
    found = detector.score([good, folder / "left" / "3.png", np.zeros((2, 2, 9)), "/nowhere.png", good])
    assert [one.error is None for one in found] == [True, False, False, False, True]
    assert found[3].error == "no such file"
    assert found[3].path == "/nowhere.png"


def test_results_come_before_all_images_were_asked_for(detector) -> None:
    def endless():
        while True:
            yield Image.new("RGB", (20, 20), (9, 99, 199))

    stream = detector.stream(endless())
    assert next(stream) == next(stream)
    stream.close()


def test_calibrating_sets_gamma_and_what_is_saved_is_loaded(detector, folder, tmp_path) -> None:
    before = detector.threshold
    after = detector.calibrate(folder, target_tpr=0.8)
    assert detector.threshold == before
    assert (after.threshold.n, after.threshold.target_tpr, after.classes) == (33, 0.8, detector.classes)
    results = [one for one in after.score(folder) if one.error is None]
    assert 0.8 <= np.mean([not one.is_ood for one in results]) <= 0.8 + 1 / 33
    after.save(tmp_path / "kept.safetensors")
    again = Detector.load(tmp_path / "kept.safetensors", device="cpu")
    assert again.threshold == after.threshold
    assert again.stored.seen == after.stored.seen


def test_doubts_and_drift_are_python_warnings_at_the_callers_line(detector, folder) -> None:
    with pytest.warns(UserWarning, match="9 held-out images cannot resolve a TPR of 95%") as told:
        after = detector.calibrate([one.path for one in detector.score(folder / "left")[:10]])
    assert told[0].filename == __file__
    large = [np.random.default_rng(i).random((300, 300, 3)) for i in range(20)]
    with pytest.warns(UserWarning, match="The images are larger than calibration's") as told:
        after.score(large)
    assert {one.filename for one in told} == {__file__}


def test_a_detector_of_class_names_alone_says_that_it_is_not_calibrated(tiny_model, folder) -> None:
    made = Detector.zero_shot(["left", "middle", "right"], model=tiny_model, device="cpu")
    assert not made.calibrated
    assert made.threshold.basis == "uncalibrated"
    assert len(made.score(folder)) == 36
    assert made.calibrate(folder).calibrated
    with pytest.raises(UsageError, match="named twice"):
        Detector.zero_shot(["cat", "cat"], model=tiny_model)


def test_errors_are_those_of_the_command_line(detector, tmp_path) -> None:
    with pytest.raises(LsnError, match="no detector artefact"):
        Detector.load(tmp_path)
    with pytest.raises(LsnError, match="There is no"):
        detector.score(tmp_path / "nothing")
    with pytest.raises(LsnError, match="There are no images"):
        detector.score(tmp_path)
    with pytest.raises(TypeError, match="several images"):
        detector.score(Image.new("RGB", (3, 3)))
    with pytest.raises(LsnError, match="no readable image"):
        detector.calibrate([])
    with pytest.raises(LsnError, match="no readable image") as caught:
        detector.calibrate(["/nowhere.png"])
    assert caught.value.hint == "The first reason: /nowhere.png: no such file."
    with pytest.raises(UsageError, match="path of the images is empty"):
        detector.score("")
    for options in ({"batch_size": -1}, {"workers": -1}):
        with pytest.raises(UsageError, match="expected 0 or more, found -1"):
            replace(detector, **options).score([])


@pytest.mark.parametrize("wrong", ["cat,dog", [1, 2]])
def test_class_names_that_are_no_list_of_texts_are_refused_before_a_model_is_loaded(wrong) -> None:
    with pytest.raises(UsageError, match="Expected a list of class names, found "):
        Detector.zero_shot(wrong, model="there is none")


def test_images_that_calibration_could_not_read_are_told(detector, folder) -> None:
    with pytest.warns(UserWarning, match=r"Not used: 3 of 36 images, such as .*3\.png: "):
        detector.calibrate(folder)
    with pytest.warns(UserWarning, match="Not used: 1 of 2 images, such as image 1: an array of shape"):
        detector.calibrate([np.zeros((9, 9)), np.zeros(9)])


@pytest.fixture(scope="module")
def zero_shot(tiny_model) -> Detector:
    return Detector.zero_shot(["left", "middle", "right"], model=tiny_model, device="cpu")


@pytest.mark.parametrize("name", ["detector", "zero_shot"])
def test_a_detector_that_has_scored_is_pickled_without_its_model_and_copied_with_it(
    name: str, folder: Path, request: pytest.FixtureRequest
) -> None:
    made: Detector = request.getfixturevalue(name)
    expected = made.score(folder / "left")
    written = pickle.dumps(made)
    assert len(written) < 2 * len(pickle.dumps(made.stored))
    assert made.score(folder / "left") == expected  # its own model is still there
    for other in (pickle.loads(written), copy.copy(made), copy.deepcopy(made)):
        assert (other.device, other.batch_size, other.classes) == (made.device, made.batch_size, made.classes)
        assert other.score(folder / "left") == expected
    assert copy.copy(made).backbone is made.backbone
    assert copy.deepcopy(made).backbone is made.backbone
    assert copy.deepcopy(made).stored is not made.stored
    assert pickle.loads(written).backbone is not made.backbone
    assert pickle.loads(pickle.dumps(Detector(made.stored))).threshold == made.threshold


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:This process")  # Python itself warns of forks, from 3.12 on
def test_a_process_forked_after_a_detector_has_scored_says_what_to_do(detector: Detector) -> None:
    image = np.zeros((9, 9, 3), np.uint8)
    detector.score([image])

    def refused(work) -> bool:
        try:
            work()
        except LsnError as error:
            return "forked" in error.message and "get_context('spawn')" in error.hint
        return False

    child = os.fork()
    if not child:
        again = (lambda: detector.score([image]), lambda: Detector(detector.stored).score([image]))
        more = (lambda: Detector.zero_shot(["a"]), lambda: detector.calibrate([image]))
        os._exit(0 if all(map(refused, [*again, *more])) else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert detector.score([image])


POOLS = """
import multiprocessing, sys, warnings
import numpy as np
from lsncli import Detector

warnings.simplefilter("ignore")

def scores(given):
    detector, images = given
    return [one.score for one in detector.score(images)]

if __name__ == "__main__":
    random = np.random.default_rng(5)
    images = [random.integers(0, 255, (40, 40, 3)).astype("uint8") for _ in range(5)]
    detector = Detector.load(sys.argv[1], device="cpu")
    with multiprocessing.get_context("fork").Pool(1) as pool:  # nothing has computed here yet
        forked = pool.map(scores, [(detector, images)])[0]
    here = scores((detector, images))
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        spawned = pool.map(scores, [(detector, images)] * 2)
    assert forked == here == spawned[0] == spawned[1], (forked, here, spawned)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_pools_of_processes_score_what_this_one_does(work: Path, tmp_path: Path) -> None:
    script = tmp_path / "pools.py"
    script.write_text(POOLS)
    done = subprocess.run([sys.executable, script, work], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_detector_shows_what_its_verdicts_rest_on(detector) -> None:
    assert repr(detector) == f"<Detector {detector.stored.basis}>"


def test_the_package_is_typed_light_and_says_what_it_has() -> None:
    script = (
        "import sys, lsncli; assert not {'torch', 'numpy', 'PIL'} & set(sys.modules); "
        "from lsncli import Detector; assert 'torch' in sys.modules; print(Detector.__module__)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "lsncli.api"
    assert (Path(lsncli.__file__).parent / "py.typed").is_file()
    assert set(lsncli.__all__) == {
        "Detector",
        "MethodSelection",
        "Threshold",
        "Verdict",
        "__version__",
        "evaluate_scores",
        "list_images",
        "load_backbone",
        "load_score",
        "read_split",
        "select_method",
    }
    with pytest.raises(AttributeError, match="no attribute 'Detectr'"):
        lsncli.Detectr  # noqa: B018


def test_a_frame_has_a_row_for_every_image_and_the_columns_of_a_verdict(detector, folder) -> None:
    frame, verdicts = detector.score_frame(folder), detector.score(folder)
    assert list(frame.columns) == [field.name for field in fields(lsncli.Verdict)]
    assert frame["path"].tolist() == [one.path for one in verdicts]
    assert frame["score"].dtype == frame["positive"].dtype == np.float64
    readable = frame[frame["error"].isna()]
    assert readable["score"].tolist() == [one.score for one in verdicts if one.error is None]
    assert readable["is_ood"].tolist() == [one.is_ood for one in verdicts if one.error is None]
    assert frame["score"].isna().sum() == frame["error"].notna().sum() == 3
    assert frame["positive"].isna().all()
    assert len(detector.score_frame([])) == 0


def test_a_detector_is_an_outlier_detector_of_scikit_learn(detector, work, folder) -> None:
    split = lsncli.read_split(work / "features.h5", "train")
    verdicts = [one for one in detector.score(folder) if one.error is None]
    scores = np.array([one.score for one in verdicts])
    assert detector.offset_ == detector.threshold.gamma
    for features in (split.features, DataFrame(split.features), split.features.astype(np.float64)):
        assert detector.score_samples(features) == pytest.approx(scores, rel=1e-5)
        assert detector.decision_function(features) == pytest.approx(scores - detector.offset_, abs=1e-6)
    assert np.array_equal(detector.predict(split.features) == -1, [one.is_ood for one in verdicts])
    pipeline = make_pipeline(FunctionTransformer(lambda rows: rows.astype(np.float32)), detector)
    assert pipeline.fit(split.features) is pipeline
    assert np.array_equal(pipeline.predict(split.features), detector.predict(split.features))
    assert pipeline.score_samples(split.features) == pytest.approx(scores, rel=1e-5)
    assert np.array_equal(clone(pipeline).predict(split.features), detector.predict(split.features))
    assert is_outlier_detector(detector)
    assert set(detector.fit(split.features).predict(split.features)) == {1, -1}


def test_images_are_samples_too_and_one_that_cannot_be_read_is_no_id_image(detector, folder) -> None:
    scores = detector.score_samples(folder)
    expected = [np.nan if one.score is None else one.score for one in detector.score(folder)]
    assert np.array_equal(scores, expected, equal_nan=True)
    assert np.isnan(scores).sum() == 3
    assert set(detector.predict(folder)[np.isnan(scores)]) == {-1}
    assert detector.score_samples([np.zeros((9, 9, 3), np.uint8)]).shape == (1,)
    for wrong in (np.zeros((4, 3)), np.zeros((9, 9), np.uint8)):
        with pytest.raises(UsageError, match=r"Expected features \(N, 32\) of .*, found .* \(\d, \d\)"):
            detector.score_samples(wrong)


def test_the_examples_of_the_public_api_are_true() -> None:
    for module in (lsncli, api, detect):
        results = doctest.testmod(module)
        assert results.attempted > 0
        assert results.failed == 0


def test_metrics_are_a_table_in_percent_with_a_row_for_each_ood_set() -> None:
    random = np.random.default_rng(0)
    inside, near, far = random.normal(1, 1, 90), random.normal(0, 1, 80), random.normal(-2, 1, 70)
    table = lsncli.evaluate_scores(inside, {"near": near, "far": far})
    assert list(table.index) == ["near", "far"]
    assert list(table.columns) == [field.name for field in fields(metrics.OodMetrics)]
    expected = metrics.evaluate_scores(inside, far)
    assert table.loc["far", "auroc"] == pytest.approx(100 * expected.auroc)
    assert table.loc["far", "fpr95"] == pytest.approx(100 * expected.fpr95)
    assert (table.loc["near", "n_id"], table.loc["near", "n_ood"]) == (90, 80)
    assert lsncli.evaluate_scores(inside, far).loc["OOD"].equals(table.loc["far"])
    with pytest.raises(LsnError, match="at least one OOD score"):
        lsncli.evaluate_scores(inside, [])


def test_the_example_runs(folder, tiny_model, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        sys, "argv", [str(EXAMPLE), str(folder), str(folder), "left,middle,right", tiny_model]
    )
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    out = capsys.readouterr().out
    assert "3 classes" in out
    assert "uncalibrated" in out
    assert "for a TPR of 95%" in out
    assert "'unreadable': 3" in out
    assert (tmp_path / "detector.safetensors").is_file()
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE)])
    with pytest.raises(SystemExit, match=r"score_folder\.py IMAGES GOOD"):
        runpy.run_path(str(EXAMPLE), run_name="__main__")


def test_one_image_costs_one_row_of_the_image_tower(detector, folder, monkeypatch) -> None:
    """No batch is padded: counted where pixels enter the tower, whatever computes it."""
    forwards = type(detector.backbone.forwards)
    get, rows = forwards.get, []

    def counting(self, *arguments):
        forward = get(self, *arguments)

        def count(pixels):
            rows.append(len(pixels))
            return forward(pixels)

        return count

    monkeypatch.setattr(forwards, "get", counting)
    file = next(one.path for one in detector.score(folder) if one.error is None)
    rows.clear()
    wide = replace(detector, batch_size=16)
    for images in (file, [file], [Image.open(file)], np.array(Image.open(file))[None]):
        (verdict,) = wide.score(images)
        assert verdict.error is None
        assert rows == [1]
        rows.clear()
    list(wide.stream([file] * 17))
    assert rows == [16, 1]


def test_what_is_kept_between_calls_follows_the_detector(detector, folder, monkeypatch) -> None:
    made = []
    monkeypatch.setattr(
        api, "detect_function", lambda *given: made.append(given) or detect.detect_function(*given)
    )
    file = next(one.path for one in detector.score(folder) if one.error is None)
    other = replace(detector)
    for _ in range(3):
        (before,) = other.score([file])
    assert len(made) == 1
    threshold = replace(other.stored.threshold, gamma=before.score + 1)
    other.stored = replace(other.stored, threshold=threshold)
    (after,) = other.score([file])
    assert (len(made), after.is_ood, after.threshold) == (2, True, before.score + 1)
    assert pickle.loads(pickle.dumps(other)).score([file])[0].is_ood


def test_another_rate_judges_as_lsn_score_does(detector, work, folder, capsys) -> None:
    words = ["score", str(folder), "--work", str(work), "--format", "json", "-q", "--max-failure-rate", "1"]
    for rate in ({"target_tpr": 0.5}, {"false_alarms": 0.5}):
        ((name, value),) = rate.items()
        exit_code(*words, f"--{name.replace('_', '-')}", str(value))
        rows = json.loads(capsys.readouterr().out)
        found = detector.score(folder, **rate)
        assert [(one.is_ood, one.p_value) for one in found] == [
            (row["is_ood"], row["p_value"]) for row in rows
        ]
        thresholds = {one.threshold for one in found if one.error is None}
        assert thresholds == {row["threshold"] for row in rows if row["error"] is None}
        frame = detector.score_frame(folder, **rate)
        assert frame["is_ood"].tolist() == [one.is_ood for one in found]
    assert detector.threshold.target_tpr == 0.95


def test_rates_that_cannot_be_are_refused(detector, folder) -> None:
    with pytest.raises(UsageError, match="two rules for one verdict"):
        detector.score(folder, target_tpr=0.9, false_alarms=0.1)
    older = replace(detector, stored=replace(detector.stored, held_out=None))
    with pytest.raises(UsageError, match="an older lsn"):
        older.score(folder, false_alarms=0.1)


def test_too_few_held_out_images_to_flag_any_are_a_warning_at_the_users_line(detector, folder) -> None:
    with pytest.warns(UserWarning, match="no p-value is below") as caught:
        detector.score(folder, false_alarms=0.001)
    (found,) = [one for one in caught if "no p-value" in str(one.message)]
    assert found.filename == __file__


@pytest.fixture(scope="module")
def by_class(detector, folder) -> Detector:
    """The detector with a threshold for each class, on every image four times, so that there are enough."""
    paths = [str(path) for path in sorted(folder.rglob("*.*"))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        made = detector.calibrate(4 * paths, 0.6, per_class=True)
    assert len({*made.stored.class_thresholds.gammas}) > 1
    return made


def test_each_class_can_have_a_threshold(by_class, folder) -> None:
    found = by_class.score(folder)
    gammas = by_class.stored.class_thresholds.gammas
    for one in found:
        if one.error is None:
            assert one.threshold == gammas[by_class.classes.index(one.predicted)]
            assert one.is_ood == (one.score < one.threshold)
    decided = by_class.decision_function(folder)
    expected = [one.score - one.threshold if one.error is None else np.nan for one in found]
    np.testing.assert_allclose(decided, expected)
    assert by_class.predict(folder).tolist() == [1 if one.is_ood is False else -1 for one in found]
    again = pickle.loads(pickle.dumps(by_class))
    assert [one.threshold for one in again.score(folder)] == [one.threshold for one in found]
    assert "gamma by predicted class" in repr(by_class)


def test_features_are_judged_by_the_threshold_of_their_predicted_class(by_class, work) -> None:
    split = lsncli.read_split(work / "features.h5", "train")
    decided = by_class.decision_function(split.features[:])
    verdicts = [
        one
        for _, batch in detect.detect_split(
            split, by_class.stored.fingerprint, by_class.stored, lambda: by_class.backbone
        )
        for one in batch
    ]
    expected = [one.score - one.threshold for one in verdicts if one.error is None]
    np.testing.assert_allclose(decided, expected)
    assert len({one.threshold for one in verdicts if one.error is None}) > 1
    np.testing.assert_array_equal(by_class.predict(split.features[:]), np.where(decided >= 0, 1, -1))
    assert by_class.predict(split.features[:0]).shape == (0,)
