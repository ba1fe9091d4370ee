"""A training that ends early: what it leaves, who goes on from it, and to what."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from workspace_samples import NEG, POS, workspace

from lsncli.errors import LsnError
from lsncli.methods.workspace import Workspace
from lsncli.prompts import kernels
from lsncli.prompts.settings import PromptSettings
from lsncli.training import checkpoints as resume
from lsncli.training import prompts as train


@pytest.fixture(autouse=True)
def every_epoch(monkeypatch) -> None:
    monkeypatch.setattr(resume, "SAVE_SECONDS", 0.0)


@pytest.fixture
def made(tmp_path: Path, tiny_backbone):
    """Makes workspaces, in ``whole`` the artefacts of trainings that nothing happened to."""

    def make(name: str, settings: PromptSettings) -> Workspace:
        work = workspace(tmp_path / name, tiny_backbone.fingerprint)
        if settings.kind == "negative":
            train.train_prompts(work, tiny_backbone, train.plan_positive(work), POS)
        return work

    return make


class Trainer:
    """``train_prompts`` with the remarks it made and the steps it took."""

    def __init__(self, work: Workspace, backbone, settings: PromptSettings) -> None:
        self.work, self.backbone, self.settings = work, backbone, settings
        self.remarks: list[str] = []
        self.ticks: list[tuple[int, str]] = []

    def run(self, *, stop_after: int | None = None, **options: object) -> bytes:
        """What all artefacts hold in the end; KeyboardInterrupt after a number of steps."""
        self.remarks.clear()
        self.ticks.clear()

        def progress(step: int, note: str = "") -> None:
            self.ticks.append((step, note))
            if sum(n for n, _ in self.ticks) == stop_after:
                raise KeyboardInterrupt

        negative = self.settings.kind == "negative"
        plan = train.plan_negative(self.work) if negative else train.plan_positive(self.work)
        train.train_prompts(
            self.work,
            self.backbone,
            plan,
            self.settings,
            progress=progress,
            remark=self.remarks.append,
            **options,
        )
        return self.artefacts()

    def artefacts(self) -> bytes:
        return self.work.prompts(self.settings.kind).read_bytes() + self.work.detector.read_bytes()

    def interrupted(self, after: int, **options: object) -> None:
        with pytest.raises(KeyboardInterrupt):
            self.run(stop_after=after, **options)

    @property
    def left(self) -> list[str]:
        return sorted(path.name for path in self.work.folder.iterdir())


@pytest.fixture(params=[("positive", "coop"), ("negative", "coop"), ("positive", "cocoop")], ids="-".join)
def settings(request) -> PromptSettings:
    kind, learner = request.param
    return replace(POS if kind == "positive" else NEG, learner=learner)


def test_an_interrupted_training_goes_on_to_the_same_bytes(made, tiny_backbone, settings) -> None:
    expected = Trainer(made("whole", settings), tiny_backbone, settings).run()
    trainer = Trainer(made("work", settings), tiny_backbone, settings)
    before = trainer.left
    trainer.interrupted(after=4)  # of 9 steps: 24 rows in batches of 8, three epochs
    assert trainer.left == sorted([*before, f"{settings.kind}.unfinished.safetensors"])
    trainer.interrupted(after=8)
    assert trainer.remarks == [f"Resuming after epoch 1 of 3, from {trainer.work.checkpoint(settings.kind)}."]
    assert trainer.ticks[0] == (3, "resumed")
    assert trainer.run() == expected
    assert trainer.remarks[0].startswith("Resuming after epoch 2 of 3, ")
    assert sum(n for n, _ in trainer.ticks) == 9
    assert not trainer.work.checkpoint(settings.kind).exists()
    assert trainer.run() == expected  # finished is finished: from the start
    assert trainer.remarks == []


def test_restart_starts_from_the_first_epoch(made, tiny_backbone, settings) -> None:
    trainer = Trainer(made("work", settings), tiny_backbone, settings)
    trainer.interrupted(after=7)
    found = trainer.run(resume=False)
    assert trainer.remarks == []
    assert len(trainer.ticks) == 9
    assert not trainer.work.checkpoint(settings.kind).exists()
    assert found == Trainer(made("whole", settings), tiny_backbone, settings).run()


@pytest.mark.parametrize(
    "changes", [{"epochs": 4}, {"rate": 0.021}, {"seed": 1}, {"mode": "official"}, {"length": 5}]
)
def test_the_checkpoint_of_another_training_is_passed_over(made, tiny_backbone, changes) -> None:
    trainer = Trainer(made("work", POS), tiny_backbone, POS)
    trainer.interrupted(after=7)
    trainer.settings = replace(POS, **changes)
    found = trainer.run()
    assert [text.partition(" is of ")[2] for text in trainer.remarks] == [
        "a training with other settings, rows or model; this one starts anew."
    ]
    assert found == Trainer(made("whole", POS), tiny_backbone, trainer.settings).run()


def test_other_rows_are_another_training(made, tiny_backbone) -> None:
    trainer = Trainer(made("work", POS), tiny_backbone, POS)
    trainer.interrupted(after=7)
    plan = train.plan_positive(trainer.work, shots=6)
    train.train_prompts(trainer.work, tiny_backbone, plan, POS, remark=trainer.remarks.append)
    assert "other settings, rows or model" in trainer.remarks[0]


def test_the_kernel_of_the_checkpoint_is_kept_though_the_self_test_ends_otherwise(
    made, tiny_backbone, monkeypatch
) -> None:
    expected = Trainer(made("whole", POS), tiny_backbone, POS).run(kernel="torch")
    trainer = Trainer(made("work", POS), tiny_backbone, POS)
    monkeypatch.setattr(kernels, "NARROW", 0)
    monkeypatch.setattr(kernels, "_onednn_leads", lambda width, threads: False)
    trainer.interrupted(after=7)
    monkeypatch.setattr(kernels, "_onednn_leads", lambda width, threads: True)
    assert trainer.run() == expected
    assert trainer.remarks[0].startswith("Resuming after epoch 2 of 3, ")


def test_positive_and_negative_trainings_do_not_take_each_others_checkpoint(made, tiny_backbone) -> None:
    trainer = Trainer(made("work", NEG), tiny_backbone, NEG)
    trainer.interrupted(after=4)
    assert trainer.work.checkpoint("negative").is_file()
    assert not trainer.work.checkpoint("positive").exists()
    Trainer(trainer.work, tiny_backbone, POS).run()
    assert trainer.work.checkpoint("negative").is_file()
    trainer.run()
    assert trainer.remarks[0].startswith("Resuming after epoch 1 of 3, ")  # the positive prompts are the same


def test_a_damaged_checkpoint_says_how_to_go_on(made, tiny_backbone) -> None:
    trainer = Trainer(made("work", POS), tiny_backbone, POS)
    expected = trainer.run()
    trainer.work.checkpoint("positive").write_text("nonsense")
    with pytest.raises(LsnError, match="not a readable safetensors file") as caught:
        trainer.run()
    assert "--restart" in caught.value.hint
    assert trainer.run(resume=False) == expected


def test_short_epochs_do_not_all_write(made, tiny_backbone, monkeypatch) -> None:
    written: list[int] = []
    save = resume.save_checkpoint

    def counted(path, run, checkpoint) -> None:
        written.append(len(checkpoint.history))
        save(path, run, checkpoint)

    monkeypatch.setattr(resume, "save_checkpoint", counted)
    trainer = Trainer(made("work", POS), tiny_backbone, replace(POS, epochs=5))
    trainer.run()
    assert written == [1, 2, 3, 4]  # after the last epoch the prompts themselves are written
    written.clear()
    clock = SimpleNamespace(monotonic=lambda: 0.2 * len(trainer.ticks))  # 0.6 seconds an epoch
    monkeypatch.setattr(resume, "time", clock)
    monkeypatch.setattr(resume, "SAVE_SECONDS", 1.0)
    trainer.run()
    assert written == [2, 4]


def test_a_training_that_diverges_keeps_the_prompts_of_before(made, tiny_backbone) -> None:
    trainer = Trainer(made("work", POS), tiny_backbone, POS)
    expected = trainer.run()
    trainer.settings = replace(POS, rate=1e30)
    with pytest.raises(LsnError, match="Training diverged"):
        trainer.run()
    assert trainer.artefacts() == expected
