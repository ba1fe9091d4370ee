"""Run by ``test_pretended_device.py`` in a process with a pretended card: it computes what a CPU computes.

The names of ``pretended_card`` exist in that process alone.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
import torch
from photo_samples import photos
from PIL import Image
from pretended_card import CARD, DEVICE, OnCard, WrongDevice
from workspace_samples import CLASSES, clusters

from lsncli.backbones import Backbone, load_backbone, with_relevance, with_text
from lsncli.device import apply_precision, pick_device, seeded
from lsncli.errors import LsnError
from lsncli.explanation.saliency import explain
from lsncli.extraction.encoder import encode_batch, encode_stream, mover
from lsncli.images.listing import list_images
from lsncli.images.loader import Batch
from lsncli.memory import InParts
from lsncli.methods.workspace import Workspace
from lsncli.optimizers import Optimizer
from lsncli.prompts import fast_tower, learner
from lsncli.prompts.clipn import NoSettings, learn_no, text_rows
from lsncli.prompts.cocoop import conditional_cosines
from lsncli.prompts.dualcoop import DUAL, Asymmetric
from lsncli.prompts.learner import learn, settings_layout
from lsncli.prompts.settings import PromptSettings, preset
from lsncli.prompts.text_features import text_features
from lsncli.scores import load_score, ready
from lsncli.scores import points as point_scores
from lsncli.training.finetune import plan_tuning, tune_tower
from lsncli.training.finetune_loop import TuneSettings
from lsncli.training.linear_probe import fit_probes
from lsncli.types import Head, Rows, unit

Both = dict[str, Backbone]
T = TypeVar("T")


@pytest.fixture(scope="module")
def both(tiny_model: str) -> Both:
    """The tiny model on the CPU and on the card."""
    return {device: load_backbone(tiny_model, device=device) for device in ("cpu", "cuda")}


@pytest.fixture(scope="module")
def rows() -> Rows:
    split = clusters("train")
    return Rows(split.features, split.labels)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photos(tmp_path_factory.mktemp("photos"), broken=2)


@pytest.fixture(autouse=True)
def exact() -> Iterator[None]:
    """TF32 off again, and nothing left on the card that a check put there beyond the models."""
    apply_precision("fp32", DEVICE)
    yield
    apply_precision("fp32", DEVICE)


def close(found: object, expected: object, tolerance: float = 2e-5) -> None:
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


class TestThePretence:
    """It refuses what CUDA refuses, and nothing else."""

    def test_auto_is_the_card_and_gradients_stay_on_it(self) -> None:
        assert pick_device("auto") == torch.device("cuda")
        x = torch.randn(4, 3).to("cuda").requires_grad_()
        layer = torch.nn.Linear(3, 2).to("cuda")
        layer(x).sum().backward()
        assert isinstance(x.grad, OnCard)
        close(x.grad.cpu(), layer.weight.detach().cpu().sum(0).expand(4, 3))

    def test_a_module_keeps_its_parameters_when_it_moves(self) -> None:
        layer = torch.nn.Linear(3, 2)
        before = dict(layer.named_parameters())
        layer.to("cuda")
        assert all(tensor is before[name] for name, tensor in layer.named_parameters())
        assert all(isinstance(tensor, OnCard) for tensor in before.values())

    def test_writing_through_a_view_writes(self) -> None:
        with torch.inference_mode():
            x = torch.zeros(2, 3, device="cuda")
            x.view(6)[4] = 7
            x[0] += torch.ones(3, device="cuda")
        assert x.tolist() == [[1, 1, 1], [0, 7, 0]]

    def test_a_shape_changed_in_place_is_changed(self) -> None:
        x = torch.ones(3, device="cuda").requires_grad_()
        y = torch.stack([x @ torch.ones(3, 2, device="cuda")])  # torch squeezes the product in place
        assert y.shape == (1, 2)
        y.sum().backward()
        assert x.grad.tolist() == [2, 2, 2]

    def test_two_devices_in_one_operator_are_refused(self) -> None:
        here, there = torch.ones(3, device="cuda"), torch.ones(3)
        for mix in (lambda: here + there, lambda: there @ here, lambda: there[torch.tensor([1]).to("cuda")]):
            with pytest.raises(WrongDevice):
                mix()
        assert (here[torch.tensor([1])] + torch.tensor(2.0)).tolist() == [3]  # CUDA allows both
        with pytest.raises(WrongDevice, match="cannot become an array"):
            here.numpy()

    def test_a_generator_of_the_cpu_is_refused(self) -> None:
        with pytest.raises(WrongDevice, match="generator"):
            torch.rand(3, device="cuda", generator=seeded(0))

    def test_memory_is_counted_and_runs_out(self) -> None:
        before = CARD.live
        kept = torch.zeros(1000, device="cuda")
        view = kept[10:]
        assert CARD.live == before + 4000
        del kept
        assert CARD.live == before + 4000
        del view
        assert CARD.live == before
        with CARD.limited(4000), pytest.raises(torch.cuda.OutOfMemoryError):
            torch.zeros(1001, device="cuda")


class TestEncoding:
    def test_features_and_failures_are_those_of_the_cpu(self, both: Both, folder: Path) -> None:
        items = list_images([folder]).items
        found = {
            device: list(encode_stream(items, model, batch_size=4, workers=2))
            for device, model in both.items()
        }
        assert len(found["cpu"]) == 8
        for one, other in zip(found["cuda"], found["cpu"], strict=True):
            assert (one.keys, one.failures) == (other.keys, other.failures)
            close(one.features, other.features, 2e-3)  # float16
        assert CARD.ran["aten::convolution"]

    def test_tf32_is_another_model_and_fp32_is_exact(self, tiny_model: str, both: Both, folder: Path) -> None:
        items = list_images([folder / "left"]).items
        rough = load_backbone(tiny_model, device="cuda", precision="tf32")
        assert rough.fingerprint.digest != both["cpu"].fingerprint.digest

        def features(model: Backbone) -> np.ndarray:
            return next(encode_stream(items, model, batch_size=16, workers=1)).features.astype(np.float64)

        torch.backends.cudnn.allow_tf32 = True  # torch's default
        exact = features(both["cpu"])
        before, rounded, after = (
            np.abs(features(model) - exact).mean() for model in (both["cuda"], rough, both["cuda"])
        )
        assert rounded > 20 * before  # which are a last bit of float16, now and then
        assert after == before

    def test_relevance_and_text_features_are_those_of_the_cpu(self, both: Both) -> None:
        pixels = torch.randn(1, 3, 32, 32, generator=seeded(1))
        directions = torch.from_numpy(unit(np.random.default_rng(2).normal(size=(2, 32)))).float()
        maps = [with_relevance(model).relevance(pixels, directions) for model in both.values()]
        close(maps[1], maps[0])
        texts = [text_features(with_text(model).text_tower(), CLASSES).cpu() for model in both.values()]
        close(texts[1], texts[0])


COOP = {"epochs": 2, "length": 4, "rate": 0.02, "batch_size": 15}
SETTINGS: dict[str, PromptSettings] = {
    "positive": preset("positive", **COOP),
    "middle": preset("positive", position="middle", **COOP),
    "front, adam": preset("positive", position="front", optimizer="adam", **COOP),
    "specific": preset("positive", specific=True, **COOP),
    "no names": preset("positive", specific=True, names=False, **COOP),
    "words": preset("positive", init="a photo of a", **COOP),
    "negative": preset("negative", **COOP),
    "negative in turns": preset("negative", "official", **COOP),
    "cocoop": preset("positive", "paper", "cocoop", **COOP),
}


class TestLearning:
    @pytest.mark.parametrize(
        ("name", "memory"), [*((name, 0) for name in SETTINGS), ("positive", 1), ("specific", 1)]
    )
    def test_prompts_are_those_of_the_cpu(self, both: Both, rows: Rows, name: str, memory: int) -> None:
        settings, checkpoints = SETTINGS[name], []
        learned = [
            learn(
                with_text(model).text_tower(kernel="torch"),
                *(rows, CLASSES, settings),
                memory=memory,
                on_epoch=checkpoints.append,
            )
            for model in both.values()
        ]
        tower = with_text(both["cuda"]).text_tower(kernel="torch")
        resumed = learn(tower, rows, CLASSES, settings, memory=memory, resume=checkpoints[settings.epochs])
        assert torch.equal(resumed.contexts, learned[1].contexts)
        close(learned[1].contexts, learned[0].contexts)
        close(learned[1].history, learned[0].history)
        if settings.learner == "cocoop":
            layout = settings_layout(with_text(both["cpu"]).text_tower(), CLASSES, settings)
            cosines = [
                conditional_cosines(with_text(model).text_tower(), one.contexts, one.meta, layout)(
                    rows.features
                )
                for model, one in zip(both.values(), learned, strict=True)
            ]
            close(cosines[1], cosines[0])

    def test_dualcoop_is_that_of_the_cpu(self, both: Both, rows: Rows) -> None:
        settings = replace(DUAL, epochs=1, length=4)
        text = [
            learn(
                with_text(model).text_tower(kernel="torch"), rows, CLASSES, settings, objective=Asymmetric()
            )
            for model in both.values()
        ]
        close(text[1].text, text[0].text)

    def test_a_no_encoder_is_that_of_the_cpu(self, both: Both) -> None:
        captions = [f"{name} {number}" for name in CLASSES for number in range(3)]
        learned = []
        for model in both.values():
            encoder = with_text(model).text_function()
            yes = text_rows(encoder, encoder.weights, captions)
            images = torch.randn(yes.shape, generator=seeded(3)).to(yes.device)
            settings = NoSettings(epochs=1, batch_size=5)
            weights, history = learn_no(encoder, images, yes, captions, 100.0, settings, chunk=2)
            learned.append((history, *(tensor.cpu() for tensor in weights.values())))
        for one, other in zip(*learned, strict=True):
            close(one, other, 1e-3)  # AdamW divides by gradients that are next to zero

    def test_a_linear_probe_is_that_of_the_cpu_and_sends_its_rows_once(self, rows: Rows) -> None:
        (expected,) = fit_probes(rows, 3, [10.0], torch.device("cpu"))
        evaluations: list[int] = []
        before = CARD.ran["aten::linalg_vector_norm"]
        (probe,) = fit_probes(
            rows, 3, [10.0], DEVICE, progress=lambda step, note="": evaluations.append(step)
        )
        assert CARD.ran["aten::linalg_vector_norm"] - before == 1 + len(evaluations)  # one chunk
        close(probe.weights, expected.weights, 1e-6)
        close(probe.bias, expected.bias, 1e-6)

    @pytest.mark.parametrize("loss", ["ce", "vos", "npos"])
    def test_a_tuned_tower_is_that_of_the_cpu(self, both: Both, tmp_path: Path, loss: str) -> None:
        listing = list_images([photos(tmp_path / "photos", 6)])
        planned = plan_tuning(listing, both["cpu"], source="photos")
        settings = TuneSettings(epochs=2, batch_size=8, rate=1e-3, loss=loss)
        history = [
            tune_tower(Workspace(tmp_path / device), planned, settings, torch.device(device), c=10.0)
            for device in both
        ]
        close(history[1].trained.head.history, history[0].trained.head.history, 1e-3)


class TestScores:
    @pytest.mark.parametrize(
        "name",
        ["knn", "nnguide", "vos", "npos", "rpl", "arpl", "mahalanobis", "react", "vim", "lsn", "mcm", "line"],
    )
    def test_scores_are_those_of_the_cpu(self, rows: Rows, name: str) -> None:
        random = np.random.default_rng(4)
        text, negative = random.normal(size=(3, 32)), random.normal(size=(2, 3, 32))
        head = Head(CLASSES, unit(text), 100.0, negative=unit(negative))
        quick = {"epochs": 2} if name in ("vos", "npos", "rpl", "arpl") else {}
        quick |= {"k": 5} if name in ("knn", "nnguide") else {}
        score = load_score(name, **quick)
        test = clusters("test", 21, seed=1).features
        found = {device: ready(score, head, rows, device)(test) for device in ("cpu", "cuda")}
        close(found["cuda"], found["cpu"], 1e-5)


def measured(run: Callable[[], T]) -> tuple[T, int]:
    """The result, and the bytes that it takes on the card."""
    start = CARD.peak = CARD.live
    return run(), CARD.peak - start


class TestOutOfMemory:
    """With less room than the first attempt takes: the same results, or a sentence."""

    def test_images_are_encoded_fewer_at_a_time(self, both: Both) -> None:
        pixels = torch.randn(16, 3, 32, 32, generator=seeded(6))
        whole, need = measured(lambda: both["cuda"].encode(pixels))
        for share in (0.9, 0.5, 0.3):
            with CARD.limited(share * need):
                close(InParts(both["cuda"].encode)(pixels), whole, 2e-3)
            assert CARD.refused
        alone = Batch(0, 16, pixels, np.zeros(16), tuple(map(str, range(16))), ())
        with CARD.limited(0.01 * need):
            assert mover(DEVICE)(alone) is alone  # the encoder sends it in parts
            with pytest.raises(LsnError, match="not enough memory for one image at a time"):
                encode_batch(alone, both["cuda"])

    @pytest.mark.parametrize("name", ["positive", "specific", "cocoop"])
    def test_a_training_continues_in_chunks(self, both: Both, rows: Rows, name: str) -> None:
        tower = with_text(both["cuda"]).text_tower(kernel="torch")
        classes = [f"{word} number {number}" for number in range(10) for word in CLASSES]
        whole, need = measured(lambda: learn(tower, rows, classes, SETTINGS[name]))
        with CARD.limited(need * 2 // 3):
            found = learn(tower, rows, classes, SETTINGS[name])
        assert CARD.refused
        close(found.contexts, whole.contexts)
        with CARD.limited(4000), pytest.raises(LsnError, match="not enough memory for a step of the train"):
            learn(tower, rows, CLASSES, SETTINGS[name])

    def test_the_first_step_of_an_optimizer_is_a_sentence(self, both: Both, rows: Rows, monkeypatch) -> None:
        tower = with_text(both["cuda"]).text_tower(kernel="torch")
        step = Optimizer.step

        def full(self: Optimizer) -> None:
            with CARD.limited(0):  # its momenta have no room
                step(self)

        monkeypatch.setattr(Optimizer, "step", full)
        with pytest.raises(LsnError, match="not enough memory for a step of the training") as caught:
            learn(tower, rows, CLASSES, SETTINGS["front, adam"])
        assert "Finished epochs are kept" in caught.value.hint

    def test_what_does_not_fit_is_sent_again(self, rows: Rows) -> None:
        many = Rows(np.repeat(rows.features, 400, axis=0), np.repeat(rows.labels, 400))
        kept = many.features.nbytes
        score, head = load_score("knn", k=5), Head(CLASSES, unit(np.eye(3, 32)), 100.0)
        for run in (
            lambda: next(fit_probes(many, 3, [10.0], DEVICE)).weights,
            lambda: ready(score, head, many, "cuda")(rows.features[:2]),
        ):
            whole, need = measured(run)
            with CARD.limited(need - kept // 2):
                close(run(), whole, 1e-6)
            assert CARD.refused

    def test_relevance_is_a_sentence(self, both: Both) -> None:
        head = Head(CLASSES, unit(np.random.default_rng(5).normal(size=(3, 32))), 100.0)
        image = Image.new("RGB", (40, 40), (200, 10, 10))
        with CARD.limited(20_000), pytest.raises(LsnError, match="not enough memory for the gradients"):
            explain(both["cuda"], head, image)


UNEQUAL = {"device", "images_per_second", "read", "decode", "waiting", "encode", "write", "seconds"}


def same(one: object, other: object) -> None:
    """Compare what commands printed: numbers up to rounding, all else exactly."""
    if isinstance(other, float) and isinstance(one, float):
        close(one, other, 2e-2)
    elif isinstance(other, dict) and isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in other.keys() - UNEQUAL:
            same(one[key], other[key])
    elif isinstance(other, list) and isinstance(one, list):
        assert len(one) == len(other)
        for each, expected in zip(one, other, strict=True):
            same(each, expected)
    else:
        assert one == other


class TestCommands:
    def test_from_images_to_verdicts(self, lsn: Callable, folder: Path, tiny_model: str) -> None:
        printed: dict[str, list[object]] = {"cpu": [], "cuda": []}
        for device, results in printed.items():
            place = ("--work", device, "--device", device)

            def run(*words: object, place: tuple = place, results: list = results) -> None:
                done = lsn(*words, *place, "-q", "--format", "json")
                assert done.code == 0, done.err
                results.append(json.loads(done.out))

            encoding = ("--batch-size", 8, "--max-failure-rate", 1)
            run("extract", folder, "--model", tiny_model, *encoding)
            quick = ("--epochs", 1, "--context-length", 4, "--kernel", "torch")
            run("train-pos", *quick)
            run("train-neg", *quick)
            run("score", folder, "--max-failure-rate", 1)
            run("train-head", "--c", 10)
            run("extract", folder, "--split", "test", *encoding)
            run("extract", folder / "left", "--split", "left", *encoding)
            run("eval", "--id", "test", "--ood", "left", "--method", "knn", "--method", "lsn")
        same(printed["cuda"], printed["cpu"])
        assert len(printed["cpu"]) > 0


class TestPlantedFaults:
    """What a slip in the product would look like, so that the checks above can fail."""

    def learn(self, both: Both, rows: Rows) -> None:
        tower = with_text(both["cuda"]).text_tower(kernel="torch")
        learn(tower, rows, CLASSES, SETTINGS["positive"])

    def test_training_rows_left_on_the_cpu(self, both: Both, rows: Rows, monkeypatch) -> None:
        batches = learner.batches

        def there(*arguments: object) -> object:
            return batches(*arguments[:-1], torch.device("cpu"))

        monkeypatch.setattr(learner, "batches", there)
        with pytest.raises(WrongDevice, match="expected all tensors on one device"):
            self.learn(both, rows)

    def test_an_operator_of_onednn(self, both: Both, rows: Rows, monkeypatch) -> None:
        monkeypatch.setattr(fast_tower, "pick_kernel", lambda *_: "onednn")
        with pytest.raises(WrongDevice, match="does not run on CUDA"):
            self.learn(both, rows)

    def test_random_numbers_of_the_cpu_on_the_card(self, rows: Rows, monkeypatch) -> None:
        def careless(values: torch.Tensor, device: torch.device) -> torch.Tensor:
            return torch.randn(values.shape, generator=seeded(0), device=device).requires_grad_()

        monkeypatch.setattr(point_scores, "trainable", careless)
        head = Head(CLASSES, unit(np.ones((3, 32))), 100.0)
        with pytest.raises(WrongDevice, match="generator"):
            load_score("rpl", epochs=1).fit(head, rows, "cuda")
