"""From image-caption pairs to a "no" encoder, on a tiny model."""

import math

import numpy as np
import pytest
import torch
from pair_samples import samples, write_csv, write_tar

from lsncli.artefacts.heads import NoTower, load_no_tower
from lsncli.console import silent
from lsncli.errors import LsnError, TooManyFailures
from lsncli.extraction.encoder import Encoder
from lsncli.prompts import clipn
from lsncli.prompts.clipn import PROMPTS, NoSettings
from lsncli.training import checkpoints as resume
from lsncli.training import clipn as train_no
from lsncli.training.clipn import encode_captions, encode_pairs, train_no_encoder
from lsncli.training.image_captions import read_pairs

QUICK = NoSettings(prompts=2, epochs=2, batch_size=8, rate=3e-5)


def encoded(backbone, *paths, rate: float = 0.2) -> train_no.Encoded:
    return encode_pairs(read_pairs(paths), Encoder(backbone, 8, 1, silent), rate)


def learned(work, backbone, path, settings: NoSettings = QUICK, **options) -> NoTower:
    pairs = encoded(backbone, path)
    return train_no_encoder(
        work, backbone, pairs, encode_captions(backbone, pairs.captions), settings, **options
    )


def test_the_loss_falls_and_the_model_stays_bit_by_bit(work, tiny_backbone, tmp_path) -> None:
    before = {name: tensor.clone() for name, tensor in tiny_backbone.model.state_dict().items()}
    tower = learned(work, tiny_backbone, write_csv(tmp_path))
    assert tower.history[1] < tower.history[0]
    assert all(torch.equal(before[name], t) for name, t in tiny_backbone.model.state_dict().items())
    saved = load_no_tower(work.no_tower)
    assert (saved.pairs, saved.failures, saved.history) == (20, (), tower.history)
    assert saved.fingerprint == tiny_backbone.fingerprint
    assert saved.settings == vars(QUICK)
    assert saved.weights[PROMPTS].shape == (2, 40, 32)
    own = tiny_backbone.text_function().weights
    assert {*own, PROMPTS} == set(saved.weights)
    assert all(not np.array_equal(saved.weights[name], tensor.numpy()) for name, tensor in own.items())
    assert not work.checkpoint("clipn").exists()


def test_the_first_loss_is_that_of_equal_encoders(work, tiny_backbone, tmp_path) -> None:
    whole = learned(work, tiny_backbone, write_csv(tmp_path), NoSettings(epochs=1))  # one batch, one step
    assert whole.history == (pytest.approx(2 * math.log(2) + 2 - 0.01, abs=1e-3),)


def test_equal_seeds_give_equal_files_and_another_does_not(work, tiny_backbone, tmp_path) -> None:
    found = []
    for seed in (0, 0, 1):
        learned(work, tiny_backbone, write_csv(tmp_path), NoSettings(epochs=1, batch_size=8, seed=seed))
        found.append(work.no_tower.read_bytes())
    assert found[0] == found[1] != found[2]


def test_a_tar_of_the_same_pairs_gives_the_same_encoder(work, tiny_backbone, tmp_path) -> None:
    members = [
        item
        for name, data, caption in samples()
        for item in ((name, data), (f"{name[:-4]}.txt", caption.encode()))
    ]
    one = learned(work, tiny_backbone, write_csv(tmp_path))
    two = learned(work, tiny_backbone, write_tar(tmp_path / "p.tar", members))
    assert one.history == two.history
    assert all(np.array_equal(one.weights[name], two.weights[name]) for name in one.weights)


def test_broken_images_are_recorded_and_the_captions_stay_with_their_images(
    work, tiny_backbone, tmp_path
) -> None:
    path = write_csv(tmp_path, extra=(("images/none.png", "not there"),))
    (tmp_path / "images/003.png").write_bytes(b"no image")
    pairs = encoded(tiny_backbone, path)
    assert pairs.captions == tuple(caption for n, (_, _, caption) in enumerate(samples()) if n != 3)
    whole = tiny_backbone.encode(
        torch.stack([tiny_backbone.preprocess(image) for image in _images(tmp_path, exclude=3)])
    )
    np.testing.assert_allclose(pairs.features, whole, rtol=0, atol=2e-3)
    assert [failure.key for failure in pairs.failures] == ["images/003.png", "images/none.png"]
    assert pairs.failures[1].reason == "no such file"
    with pytest.raises(TooManyFailures, match=r"2 of 21 pairs failed, more than the allowed 5.0%"):
        encoded(tiny_backbone, path, rate=0.05)
    tower = learned(work, tiny_backbone, path)
    assert (tower.pairs, load_no_tower(work.no_tower).failures) == (19, pairs.failures)


def test_one_pair_is_too_few(tiny_backbone, tmp_path) -> None:
    with pytest.raises(LsnError, match="at least 2 image-caption pairs, found 1"):
        encoded(tiny_backbone, write_csv(tmp_path, 1, (("gone.png", "nothing"),)), rate=1.0)


def _images(folder, exclude):
    from PIL import Image

    return [
        Image.open(folder / "images" / name).convert("RGB")
        for n, (name, _, _) in enumerate(samples())
        if n != exclude
    ]


def test_an_interrupted_training_goes_on_to_the_same_bits(work, tiny_backbone, tmp_path, monkeypatch) -> None:
    path = write_csv(tmp_path)
    learned(work, tiny_backbone, path)
    expected = work.no_tower.read_bytes()
    monkeypatch.setattr(resume, "SAVE_SECONDS", 0.0)
    ticks = []

    def interrupted(step: int, note: str = "") -> None:
        ticks.append(step)
        if len(ticks) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learned(work, tiny_backbone, path, progress=interrupted)
    assert work.checkpoint("clipn").is_file()
    remarks: list[str] = []
    learned(work, tiny_backbone, path, remark=remarks.append)
    assert remarks[0].startswith("Resuming after epoch 1 of 2")
    assert work.no_tower.read_bytes() == expected


def test_a_checkpoint_of_other_pairs_is_not_taken_up(work, tiny_backbone, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(resume, "SAVE_SECONDS", 0.0)
    kept = []
    real = clipn.snapshot
    monkeypatch.setattr(clipn, "snapshot", lambda *state: kept.append(1) or real(*state))

    def stop(step: int, note: str = "") -> None:
        if kept:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learned(work, tiny_backbone, write_csv(tmp_path, 20), progress=stop)
    remarks: list[str] = []
    tower = learned(work, tiny_backbone, write_csv(tmp_path, 12), remark=remarks.append)
    assert "starts anew" in remarks[0]
    assert len(tower.history) == 2
