"""``lsn demo``: verdicts on photos from names, the tables that it promises, and the page."""

import contextlib
import io
import re
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from cli_runner import exit_code

from lsncli.artefacts.detector import load_detector
from lsncli.artefacts.prompts import load_prompts
from lsncli.errors import LsnError
from lsncli.evaluation import demo
from lsncli.prompts.settings import preset
from lsncli.store.format import Split
from lsncli.store.reader import read_fingerprint, read_split
from lsncli.store.writer import write_split


@dataclass(frozen=True)
class Shown:
    """What the command printed, and the folder that it ran in."""

    code: int
    out: str
    err: str
    folder: Path

    @property
    def work(self) -> Path:
        return self.folder / "lsn-demo"


def run(folder: Path) -> Shown:
    """The command, once, in a folder."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = exit_code("demo")
    return Shown(code, out.getvalue(), err.getvalue(), folder)


@pytest.fixture(scope="module")
def shown(tmp_path_factory) -> Shown:
    """The whole way with two epochs: seconds instead of half a minute."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "_settings", lambda kind: replace(preset(kind, "best"), epochs=2))
        return run(tmp_path_factory.mktemp("demo"))


def comparison(out: str) -> tuple[list[str], dict[str, list[float]]]:
    """The header of the table of methods, and its numbers by method."""
    lines = out.splitlines()
    start = next(i for i, line in enumerate(lines) if "AUROC↑" in line)
    table = {}
    for line in lines[start + 1 :]:
        if match := re.match(r"^ *(\S.*?) +((\d+\.\d *)+)$", line):
            table[match[1]] = [float(number) for number in match[2].split()]
    return lines[start].split(), table


def test_it_ends_well_and_says_what_it_shows_and_what_to_type_next(shown: Shown) -> None:
    assert shown.code == 0, shown.err
    text = " ".join(shown.err.split())
    for words in ("1. Nothing but class names: cat, espresso, motorcycle", "2. Labelled images", "3. Which"):
        assert words in text
    assert "does not show the numbers of CLIP or of the paper" in text
    assert "Best on these OOD images: " in text
    assert "lsn extract ./photos; lsn train-pos; lsn train-neg; lsn score ./images" in text


def test_it_learns_with_the_default_settings(tmp_path, monkeypatch) -> None:
    used = []

    def train_prompts(work, backbone, plan, settings, progress):
        used.append(settings)
        return SimpleNamespace(detector=None)

    monkeypatch.setattr(demo, "train_prompts", train_prompts)
    made = demo.prepare_demo(tmp_path)
    for kind in ("positive", "negative"):
        demo.learn(made, kind)
    assert used == [preset("positive", "best"), preset("negative", "best")]


def test_its_workspace_has_the_features_the_prompts_and_the_detector(shown: Shown) -> None:
    ten = read_split(shown.work / "features.h5", "train").classes
    assert len(ten) == 10
    for kind in ("positive", "negative"):
        prompts = load_prompts(shown.work / f"{kind}.safetensors", kind)
        assert (prompts.classes, prompts.settings["mode"]) == (ten, "best")
    assert load_detector(shown.work / "detector.safetensors").method == "lsn"


def test_it_compares_methods_on_every_ood_split(shown: Shown) -> None:
    header, table = comparison(shown.out)
    assert header == ["Method", "flowers", "other", "textures", "FPR95↓", "AUROC↑"]
    assert list(table)[:-1] == list(demo.METHODS.values())
    chosen = re.search(r"`lsn select` chose (\S+) from the training images alone", shown.err)[1]
    assert list(table)[-1] == f"{chosen}, chosen by lsn select"
    assert table[f"{chosen}, chosen by lsn select"][-1] > table["MCM (nothing is learned)"][-1] + 1
    for *fpr, average, auroc in table.values():
        assert average == pytest.approx(np.mean(fpr), abs=0.11)
        assert min(*fpr, auroc) >= 0
        assert max(*fpr, auroc) <= 100
        assert auroc > 90


def test_the_photos_of_other_classes_are_of_no_class_that_is_learned_and_new_to_the_model(shown) -> None:
    """One photo of every class has a number by its WordNet id; the model was trained on the even ones."""
    store = shown.work / "features.h5"
    keys = read_split(store, "other").keys
    ids = [key.partition("_")[0] for key in keys]
    inside = {key.partition("_")[0] for key in read_split(store, "train").keys}
    assert len(inside) == 10
    assert inside.isdisjoint(ids)
    with demo.as_file(demo.files("lsncli.reference") / demo.STORE) as bundled:
        every = sorted(key.partition("_")[0] for key in read_split(bundled, "imagenet-1perclass").keys)
    assert len(every) == 1000
    assert {every.index(each) % 2 for each in ids} == {1}
    assert len(ids) == 500 - sum(every.index(each) % 2 for each in inside)


def test_every_sample_photo_gets_a_verdict_and_most_are_right(shown: Shown) -> None:
    photos = {path.name for path in demo.sample_photos()}
    assert {"china.jpg", "flower.jpg"} <= photos
    verdicts = {}
    for name in photos:
        (line,) = [line for line in shown.out.splitlines() if line.strip().startswith(name)]
        verdicts[name] = re.search(r" (OOD|ID) *$", line)[1]
    belong = {"chelsea.png", "coffee.png", "motorcycle_left.png", "motorcycle_right.png"} & photos
    right = [(verdict == "ID") == (name in belong) for name, verdict in verdicts.items()]
    assert np.mean(right) >= 0.8


def test_it_ends_with_the_page_of_the_photos(shown: Shown) -> None:
    page = (shown.folder / "lsn-demo.html").read_text(encoding="utf-8")
    assert "open lsn-demo.html in a browser" in " ".join(shown.err.split())
    for path in demo.sample_photos():
        assert path.name in page
    assert page.count("data:image/jpeg;base64,") == len(demo.sample_photos())
    assert "ILSVRC2012" not in page  # training images of other classes are no neighbours


def test_it_fits_80_columns(shown: Shown) -> None:
    assert max(map(len, shown.out.splitlines())) <= 80


def test_again_it_takes_the_features_that_are_there(shown: Shown, monkeypatch) -> None:
    before = (shown.work / "features.h5").read_bytes()
    demo.prepare_demo(shown.work)
    assert (shown.work / "features.h5").read_bytes() == before


def test_it_completes_features_and_leaves_those_of_others(tmp_path) -> None:
    demo.prepare_demo(tmp_path)
    store = tmp_path / "features.h5"
    mine, fingerprint = read_split(store, "test"), read_fingerprint(store)
    store.unlink()
    write_split(store, mine, fingerprint)
    demo.prepare_demo(tmp_path)
    assert len(read_split(store, "flowers").labels) == 990
    store.unlink()
    other = Split(**{**vars(mine), "name": "train", "source": "my own photos"})
    write_split(store, other, fingerprint)
    with pytest.raises(LsnError, match="has a split 'train' that is not the demo's") as caught:
        demo.prepare_demo(tmp_path)
    assert caught.value.hint == "Name another folder with --work."
    assert read_split(store, "train").source == "my own photos"


def test_a_method_that_fails_is_not_left_out_in_silence(tmp_path) -> None:
    made = demo.prepare_demo(tmp_path)
    with pytest.raises(LsnError, match="lsn: There is no negative-prompts artefact"):
        demo.compare(made, ("energy", "lsn"))


@pytest.mark.slow
def test_what_it_is_said_to_show_is_so(tmp_path) -> None:
    """CoOp improves on MCM, and the default detector on both, by more than a point."""
    done = run(tmp_path)
    assert done.code == 0, done.err
    table = comparison(done.out)[1]
    fpr = {name: numbers[-2] for name, numbers in table.items()}
    auroc = {name: numbers[-1] for name, numbers in table.items()}
    names = ["MCM (nothing is learned)", "CoOp + MCM", "CoOp + LSN, the default"]
    for worse, better in pairwise(names):
        assert fpr[worse] > fpr[better] + 1
        assert auroc[worse] < auroc[better]


@pytest.mark.parametrize("page", ["docs/demo.md", "README.md"])
def test_documents_show_what_it_prints(shown: Shown, page: str) -> None:
    """But for numbers, which depend on the training, and how long that takes."""

    def words(text: str) -> str:
        return re.sub(r"\d+(?:\.\d+)?", "#", " ".join(text.split()))

    text = (Path(__file__).parents[1] / page).read_text(encoding="utf-8")
    (block,) = re.findall(r"^```text\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    printed = words(shown.out + shown.err)
    lines = [line for line in block.splitlines() if line and not line.startswith("This takes about")]
    assert len(lines) >= 7
    for line in lines:
        assert words(line) in printed, line
