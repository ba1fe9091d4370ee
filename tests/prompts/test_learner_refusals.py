"""What the learner refuses: each one sentence, before or amid the work."""

import pytest
from learning_samples import ROWS, TOWER, learned, small
from tower_samples import CLASSES, LONGEST

from lsncli.errors import LsnError, UsageError
from lsncli.prompts.learner import learn
from lsncli.prompts.loop import Checkpoint


def test_divergence() -> None:
    with pytest.raises(
        LsnError, match=r"^Training diverged: the loss became (nan|inf)\. Use a lower --rate\.$"
    ):
        learned(small("positive", rate=1e30, epochs=20))


def test_a_single_class() -> None:
    with pytest.raises(LsnError, match=r"^Training needs at least 2 classes; found 1\."):
        learn(TOWER, ROWS, CLASSES[:1], small("positive"))


def test_labels_of_other_classes() -> None:
    with pytest.raises(LsnError, match="expected 0 to 1, found 0 to 2"):
        learn(TOWER, ROWS, CLASSES[:2], small("positive"))


def test_a_prompt_that_is_too_long() -> None:
    with pytest.raises(LsnError, match=f"with class 'hen' needs 21 tokens, but it reads at most {LONGEST}"):
        learned(small("negative", length=15))


def test_a_shared_context_without_names() -> None:
    with pytest.raises(UsageError, match="need a context of their own"):
        learned(small("positive", names=False))


def test_words_that_are_not_as_many_as_the_vectors() -> None:
    with pytest.raises(UsageError, match="--init 'hen' is 3 tokens, but the context has 2 vectors"):
        learned(small("positive", init="hen"))


def test_a_checkpoint_of_other_prompts() -> None:
    kept: list[Checkpoint] = []
    learned(small("negative", sets=2), on_epoch=kept.append)
    with pytest.raises(LsnError, match=r"^The checkpoint does not fit this training"):
        learned(small("negative", sets=3), resume=kept[0])
