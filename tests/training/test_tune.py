"""Fine-tuning from images: only what should learns, held-out images do not, and the checkpoint is a model."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from photo_samples import photos
from PIL import Image
from safetensors.torch import load_file
from tune_samples import QUICK, plan
from workspace_samples import workspace

from lsncli.artefacts.files import read_artefact
from lsncli.artefacts.heads import load_head
from lsncli.backbones import load_again, load_backbone
from lsncli.detection.calibrate import known_rows, make_detector
from lsncli.errors import LsnError, TooManyFailures, UsageError
from lsncli.extraction.extract import extract
from lsncli.images.listing import list_images
from lsncli.methods.heads import make_head
from lsncli.methods.spec import parse_method
from lsncli.methods.workspace import Workspace
from lsncli.scores.common import predict
from lsncli.store.reader import read_split
from lsncli.training import checkpoints as resume
from lsncli.training import finetune as tune
from lsncli.training.finetune import check_no_features, tune_tower
from lsncli.training.finetune_loop import TuneSettings, tune_settings

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photos(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def planned(folder: Path, tiny_backbone) -> tune.TunePlan:
    return plan(folder, tiny_backbone)


def tuned(
    place: Path, planned: tune.TunePlan, settings: TuneSettings = QUICK, **given
) -> tune.FineTunedModel:
    return tune_tower(Workspace(place), planned, settings, CPU, c=10.0, **given)


def test_the_loss_falls_and_the_head_remembers_how(tmp_path: Path, planned, tiny_backbone) -> None:
    done = tuned(tmp_path, planned)
    history = done.trained.head.history
    assert len(history) == 4
    assert history[-1] < 0.7 * history[0]
    saved = load_head(tmp_path / "linear.head.safetensors", "linear")
    assert (saved.scale, saved.classes, saved.history) == (1.0, ("left", "middle", "right"), history)
    assert (saved.settings["tune"], saved.settings["loss"], saved.settings["c"]) == (
        "last-blocks",
        "ce",
        10.0,
    )
    assert saved.fingerprint.digest != tiny_backbone.fingerprint.digest
    assert (done.trained.rows, done.trained.held_out, done.failures) == (24, 6, 0)


@pytest.mark.parametrize("which", ["last-blocks", "all"])
def test_only_the_chosen_part_learns_and_the_rest_stays_to_the_bit(tmp_path, planned, tiny_backbone, which):
    before = {name: tensor.clone() for name, tensor in tiny_backbone.model.state_dict().items()}
    after = load_file(tuned(tmp_path, planned, replace(QUICK, tune=which, epochs=1)).tower)
    assert after.keys() == before.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    visual = {name for name in before if name.startswith("visual.")}
    frozen = {"visual.conv1.weight", "visual.positional_embedding", "visual.ln_pre.weight"}
    # Both blocks of the tiny model are among the last two. The bias of keys never changes a softmax.
    assert changed <= visual
    assert {"visual.proj", "visual.ln_post.weight", "visual.transformer.resblocks.0.ln_1.weight"} <= changed
    assert (frozen <= changed) if which == "all" else frozen.isdisjoint(changed)
    now = tiny_backbone.model.state_dict()  # the model in memory is still the one it was
    assert all(torch.equal(now[name], before[name]) for name in before)


def test_the_checkpoint_is_a_model_whose_split_holds_out_the_same_images(
    tmp_path, planned, folder, tiny_backbone
) -> None:
    done = tuned(tmp_path / "work", planned)
    work = Workspace(tmp_path / "work")
    model = load_backbone(done.model, pretrained=str(done.tower), device="cpu")
    assert model.fingerprint == done.trained.head.fingerprint
    assert load_again(model.fingerprint, device="cpu").fingerprint == model.fingerprint
    extract(list_images([folder]), source=str(folder), store=work.features, split="train", backbone=model)
    train = read_split(work.features, "train")
    parts = known_rows(work, train)
    assert parts.rule == done.trained.head.held_out
    assert [train.keys[row] for row in parts.where] == [item.key for item in planned.training]
    head = make_head(work, "linear", train.classes, negatives=False)
    right = (predict(head, parts.held_out.features) == parts.held_out.labels).mean()
    assert right == done.trained.accuracy
    assert make_detector(work, parse_method("msp:linear")).threshold.n == 6


def test_held_out_images_are_not_trained_on(tmp_path: Path, planned, tiny_backbone) -> None:
    other = photos(tmp_path / "other")
    for item in planned.held_out:
        Image.new("RGB", (33, 32), (255, 0, 255)).save(other / item.key)
    first, second = tuned(tmp_path / "a", planned), tuned(tmp_path / "b", plan(other, tiny_backbone))
    assert len(planned.held_out) == 6
    assert load_file(first.tower).keys() == load_file(second.tower).keys()
    for name, tensor in load_file(first.tower).items():
        assert torch.equal(tensor, load_file(second.tower)[name]), name
    np.testing.assert_array_equal(first.trained.head.weights, second.trained.head.weights)


def test_seeds_decide_the_steps(tmp_path: Path, planned) -> None:
    one, same, other = (
        tuned(tmp_path / name, planned, replace(QUICK, seed=seed, epochs=1)).tower.read_bytes()
        for name, seed in (("one", 0), ("same", 0), ("other", 1))
    )
    assert one == same
    assert one != other


@pytest.mark.parametrize("loss", ["ce", "vos", "npos"])
def test_an_interrupted_training_goes_on_to_the_same_tower(tmp_path, planned, monkeypatch, loss) -> None:
    monkeypatch.setattr(resume, "SAVE_SECONDS", 0.0)
    settings, said, seen = replace(QUICK, loss=loss, epochs=6), [], []
    whole = tuned(tmp_path / "whole", planned, settings)

    def interrupt(step: int, note: str = "") -> None:
        seen.append(step)
        if "epoch 5" in note:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tuned(tmp_path / "cut", planned, settings, progress=interrupt)
    work = Workspace(tmp_path / "cut")
    assert work.checkpoint("tower").is_file()
    assert not work.tower.exists()
    again = tuned(tmp_path / "cut", planned, settings, remark=said.append)
    assert "Resuming after epoch 4 of 6" in said[0]
    assert again.tower.read_bytes() == whole.tower.read_bytes()
    assert again.trained.head.history == whole.trained.head.history
    assert not work.checkpoint("tower").exists()


def test_a_broken_image_is_recorded_and_passed_over(tmp_path: Path, tiny_backbone) -> None:
    folder = photos(tmp_path / "photos", 5, broken=2)
    with pytest.raises(TooManyFailures, match=r"3 of 15 images failed.*Nothing was trained"):
        plan(folder, tiny_backbone)
    done = tuned(
        tmp_path / "work", plan(folder, tiny_backbone, max_failure_rate=0.5), replace(QUICK, epochs=1)
    )
    assert (done.failures, done.trained.rows, done.trained.held_out) == (3, 9, 3)
    _, fields = read_artefact(done.tower, "tower", "")
    assert [one["key"] for one in fields["failures"]] == ["left/2.png", "middle/2.png", "right/2.png"]


def test_an_image_that_vanishes_stops_the_training_with_its_name(tmp_path: Path, tiny_backbone) -> None:
    folder = photos(tmp_path / "photos", 4)
    planned = plan(folder, tiny_backbone)
    (folder / planned.training[0].key).unlink()
    with pytest.raises(LsnError, match=f"{planned.training[0].key} could be read before the training"):
        tuned(tmp_path / "work", planned)


def test_a_loss_that_is_not_finite_stops_the_training(tmp_path: Path, planned) -> None:
    with pytest.raises(LsnError, match="diverged"):
        tuned(tmp_path, planned, replace(QUICK, rate=1e30, epochs=3))


def test_a_workspace_with_features_is_refused(tmp_path: Path, tiny_backbone) -> None:
    with pytest.raises(
        LsnError, match=r"holds features of local-dir.*a tuned tower is another model"
    ) as caught:
        check_no_features(workspace(tmp_path, tiny_backbone.fingerprint))
    assert "--work" in caught.value.hint


def test_images_without_classes_are_refused(tmp_path: Path, tiny_backbone) -> None:
    Image.new("RGB", (32, 32)).save(tmp_path / "one.png")
    with pytest.raises(LsnError, match=r"needs at least 2 classes; .* has 0"):
        plan(tmp_path, tiny_backbone)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tune": "some"}, "--tune: expected one of last-blocks, all"),
        ({"loss": "l2"}, "--loss: expected one of ce, vos, npos"),
        ({"epochs": 0}, "--epochs: expected a number above zero"),
        ({"batch_size": -1}, "--batch-size"),
        ({"rate": float("nan")}, "--rate"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(given, message: str) -> None:
    assert tune_settings(epochs=None, rate=0.5) == TuneSettings(rate=0.5)
    with pytest.raises(UsageError, match=message):
        tune_settings(**given)
