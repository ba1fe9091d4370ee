"""What holds for every row of BACKBONES; and a backbone without text, as docs/add-a-backbone.md adds it."""

import inspect
import json
import re
from pathlib import Path

import numpy as np
import pytest
from cli_runner import exit_code
from photo_samples import photos

from lsncli import backbones, registry
from lsncli.artefacts.detector import load_detector
from lsncli.backbones import BACKBONES, BackboneKind, NoText, load_again, load_backbone, openclip
from lsncli.backbones.catalogue import architectures
from lsncli.detection.drift import ImageSample
from lsncli.errors import UsageError
from lsncli.store.reader import read_fingerprint, read_split
from lsncli.types import unit

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "add-a-backbone.md").read_text(encoding="utf-8")
every_kind = pytest.mark.parametrize("name", BACKBONES)
USUAL = ("--device", "cpu", "--workers", "1")


@pytest.fixture(scope="module")
def added(tmp_path_factory):
    """Steps 1 and 2 of the page; returns the name of the row."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (name, place, about) = re.search(r'`"(\w+)": BackboneKind\("([\w.:]+)", "(.*?)"\)`', PAGE).groups()
    package, _, function = place.partition(":")
    assert f"`{package.replace('.', '/')}.py`" in PAGE
    folder = tmp_path_factory.mktemp("added")
    module = package.rpartition(".")[2]
    (folder / f"{module}.py").write_text(code)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.setitem(BACKBONES, name, BackboneKind(f"{module}:{function}", about))
        yield name


@pytest.fixture(scope="module")
def work(added, tmp_path_factory) -> Path:
    """A workspace with splits train, test and far of the added model, and the images beside it."""
    folder = tmp_path_factory.mktemp("textless")
    photos(folder / "photos", 8)
    (folder / "far").mkdir()
    for number, path in enumerate(sorted((folder / "photos").rglob("*.png"))[:6]):
        (folder / "far" / f"{number}.png").write_bytes(path.read_bytes())
    for split, source in (("train", "photos"), ("test", "photos"), ("far", "far")):
        words = ("extract", folder / source, "--split", split, "--model", added, "--work", folder / "work")
        assert exit_code(*words, *USUAL, "--quiet") == 0
    return folder


@pytest.fixture
def lsn(work, capsys):
    """A command in the workspace: its exit code, and both outputs."""

    def run(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        return exit_code(*words), *capsys.readouterr()

    return run


@every_kind
def test_every_row_loads_has_a_line_a_document_and_a_test_file(name) -> None:
    kind = BACKBONES[name]
    function = registry.load(kind.load)
    assert list(inspect.signature(function).parameters) == ["model", "pretrained", "device", "precision"]
    for text in (inspect.getmodule(function).__doc__, function.__doc__):
        assert text
    assert 10 < len(kind.about) <= 100
    assert "\n" not in kind.about
    module = kind.load.partition(":")[0].rpartition(".")[2]
    assert (Path(__file__).parent / f"test_{module}.py").is_file()
    assert name in (ROOT / "docs/models.md").read_text(encoding="utf-8")
    assert architectures()[name]


@pytest.mark.parametrize("model", ["mini", "mini:bundled", "tiny"])
def test_a_loaded_backbone_has_all_of_the_protocols(model, tiny_model) -> None:
    backbone = load_backbone(tiny_model if model == "tiny" else model, device="cpu")
    for protocol in (*(backbones.Backbone, backbones.TextEncoder, backbones.Explainable, backbones.Tunable),):
        for member in (one for one in vars(protocol) if not one.startswith("_")):
            assert hasattr(backbone, member)
    assert backbone.device.type == "cpu"
    assert load_again(backbone.fingerprint, device="cpu").fingerprint == backbone.fingerprint
    for given in (backbones.with_text, backbones.with_gradients, backbones.with_relevance):
        assert given(backbone) is backbone
    watched = ImageSample().watching(backbone)  # stands for it in all respects
    assert backbones.with_text(watched) is watched


def test_the_first_word_of_a_name_chooses_the_row(added, tiny_model) -> None:
    assert load_backbone(added).fingerprint.model == added
    with pytest.raises(UsageError, match="--model colours has no weights"):
        load_backbone(f"{added}:x")
    with pytest.raises(UsageError, match="open_clip has no architecture 'colour'") as caught:
        load_backbone("colour:x")
    assert {"mini", "blip", added} <= set(re.findall(r"\w+", caught.value.hint))
    explicit = load_backbone(f"open_clip:{tiny_model}", device="cpu")
    assert explicit.fingerprint == load_backbone(tiny_model, device="cpu").fingerprint
    assert isinstance(explicit, openclip.OpenClip)
    with pytest.raises(UsageError, match="--decode fast: colours"):
        load_backbone(added, decode="fast")
    with pytest.raises(UsageError, match="mini has one set of weights, bundled with lsn; found 'other'"):
        load_backbone("mini:other")


def test_models_lists_the_added_row_with_its_line(lsn, added) -> None:
    code, out, err = lsn("models", "--all", "--format", "json")
    assert code == 0
    rows = {row["name"]: row for row in json.loads(out)}
    assert {row["kind"] for row in rows.values()} == set(BACKBONES)
    assert rows[added]["about"] == BACKBONES[added].about
    assert rows[added]["dim"] is None
    assert all(f"{name}: {kind.about}" in err for name, kind in BACKBONES.items())
    code, out, err = lsn("models", added, "--weights")
    assert (code, err) == (0, f"{added}: {BACKBONES[added].about}\n")
    assert added in out
    assert lsn("models", added, "--quiet")[2] == ""


def test_a_model_without_text_goes_all_the_way_with_knn(lsn, work, added) -> None:
    assert read_fingerprint(work / "work" / "features.h5").model == added
    place = ("--work", work / "work", "--device", "cpu")
    code, out, err = lsn("calibrate", "--method", "knn,k=3", *place, "--format", "json")
    assert code == 0, err
    assert json.loads(out)[0]["head"] == "means"
    detector = load_detector(work / "work" / "detector.safetensors")
    code, out, err = lsn("score", work / "photos", *place, "--workers", 1, "--format", "json")
    assert code == 0, err
    split = read_split(work / "work" / "features.h5", "test")
    cosines = unit(split.features) @ detector.head.weights.T
    assert [row["predicted"] for row in json.loads(out)] == [
        detector.head.classes[label] for label in cosines.argmax(axis=1)
    ]
    methods = ("--method", "knn,k=3", "--method", "mahalanobis", "--method", "mcm")
    code, out, err = lsn("eval", *methods, "--ood", "far", *place, "--format", "json")
    assert code == 0, err
    rows = {row["method"].partition(",")[0]: row for row in json.loads(out)}
    knn, mahalanobis, failed = (rows[name] for name in ("knn", "mahalanobis", "mcm"))
    assert {knn["head"], mahalanobis["head"]} == {"means"}
    right = np.mean(cosines.argmax(axis=1) == split.labels)
    assert knn["id_accuracy"] == pytest.approx(right)
    assert failed["error"].startswith("This needs a text encoder, and the model colours has none.")


def test_heads_of_images_and_explanations_need_no_text(lsn, work) -> None:
    place = ("--work", work / "work", "--device", "cpu")
    for words in (
        ("train-head", *place),
        ("calibrate", "--method", "msp:linear", *place),
        ("calibrate", "--method", "mahalanobis", *place),
        ("explain", work / "photos" / "left" / "0.png", "--to", work / "out", *place),
        ("report", work / "photos", "--output", work / "page.html", *place),
    ):
        code, _, err = lsn(*words)
        assert code == 0, err
    assert (work / "page.html").stat().st_size > 0


@pytest.mark.parametrize(
    "words",
    [
        ("calibrate", "--method", "mcm"),
        ("calibrate", "--method", "neglabel"),
        ("train-pos",),
        ("train-head", "--kind", "dualcoop"),
        ("train-no", "pairs.csv"),
        ("not",),
        ("candidates", "--vocabulary", "dtd"),
        ("score", "photos", "--classes", "cat,dog"),
    ],
    ids=lambda words: "-".join(words[:3]),
)
def test_where_text_is_needed_one_sentence_says_so(lsn, work, monkeypatch, words) -> None:
    monkeypatch.chdir(work)
    Path("pairs.csv").write_text("image,caption\nphotos/left/0.png,left\n")
    code, out, err = lsn(*words, "--work", "work", "--device", "cpu", "--quiet")
    assert (code, out) == (2, "")
    error, hint = err.splitlines()
    assert error == "Error: This needs a text encoder, and the model colours has none."
    assert "lsn train-head" in hint


def test_what_else_a_model_cannot_do_is_said(added) -> None:
    colours = load_backbone(added)
    with pytest.raises(NoText):
        backbones.with_text(ImageSample().watching(colours))
    for given, named in (
        (backbones.with_gradients, "gradients"),
        (backbones.with_relevance, "where in an image"),
        (backbones.with_image_tower, "--tune"),
    ):
        with pytest.raises(UsageError, match=named):
            given(colours)
