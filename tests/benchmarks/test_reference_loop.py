"""The plain loop that everything is measured against: open_clip's features, it learns, ours follows it."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from benchmarks.speed import plain_learning, steps
from benchmarks.speed.models import Model, class_names, contexts, images, text_model
from benchmarks.speed.steps import PLAIN, Ground
from lsncli.prompts.settings import preset

NAMES = ["tench", "English springer", "zebra-like_red_bird"]


@pytest.fixture(scope="module")
def model() -> Model:
    return text_model("tiny", noise=0.1)


def words(model: Model, text: str) -> Tensor:
    """The embeddings of a text's tokens (M, W)."""
    return model.clip.token_embedding(torch.tensor(model.tokenizer.encode(text))).detach()


@pytest.mark.parametrize(
    ("position", "sentence"),
    [
        ("end", "the very red {}."),
        ("middle", "the {} very red."),  # three vectors: one before the name, two behind it
        ("front", "{} the very red."),
    ],
)
@pytest.mark.parametrize("specific", [False, True])
def test_a_context_of_words_is_the_sentence(
    model: Model, position: str, sentence: str, specific: bool
) -> None:
    context = words(model, "the very red")
    frame = plain_learning.template(model.clip, model.tokenizer, NAMES, 3, position)
    found = plain_learning.text_pass(model.clip, frame)(context.expand(3, -1, -1) if specific else context)
    texts = [sentence.format(name.replace("_", " ")) for name in NAMES]
    with torch.no_grad():
        expected = model.clip.encode_text(model.tokenizer(texts), normalize=True)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6)


def test_prompts_without_a_name_are_the_context_and_a_full_stop(model: Model) -> None:
    frame = plain_learning.template(model.clip, model.tokenizer, ["", ""], 3)
    found = plain_learning.text_pass(model.clip, frame)(words(model, "the very red"))
    with torch.no_grad():
        expected = model.clip.encode_text(model.tokenizer(["the very red."]), normalize=True)
    torch.testing.assert_close(found, expected.expand(2, -1), rtol=0, atol=2e-6)


def test_a_cut_template_drops_padding_only(model: Model) -> None:
    frame = plain_learning.template(model.clip, model.tokenizer, NAMES, 4)
    context, cut = contexts(4, model.width), frame.cut()
    assert cut.ids.shape[1] == max(row.argmax().item() for row in frame.ids) + 1 < frame.ids.shape[1]
    assert cut.prompts(context).shape[:2] == cut.ids.shape
    whole, short = (plain_learning.text_pass(model.clip, each)(context) for each in (frame, cut))
    torch.testing.assert_close(whole, short, rtol=0, atol=2e-6)


def loops(model: Model) -> dict[str, Callable[[], plain_learning.Loop]]:
    """Every learner on five classes with a context of 4."""
    text = plain_learning.text_pass(
        model.clip, plain_learning.template(model.clip, model.tokenizer, class_names(5), 4)
    )
    shared, own = contexts(4, model.width), contexts(3, 5, 4, model.width)
    others = list(images(10, model.features, seed=1).unflatten(0, (2, 5)))
    return {
        "coop": lambda: plain_learning.coop(text, shared.clone().requires_grad_()),
        "coop, double": lambda: plain_learning.coop(text, shared.clone().requires_grad_(), double=True),
        "negative": lambda: plain_learning.negative(text, own[0].clone().requires_grad_(), others),
        "negative, double": lambda: plain_learning.negative(
            text, own[0].clone().requires_grad_(), [], double=True
        ),
        "jointly": lambda: plain_learning.negative_jointly(
            text, [one.clone().requires_grad_() for one in own]
        ),
        "cocoop": lambda: plain_learning.cocoop(
            text, shared.clone().requires_grad_(), plain_learning.meta_net(model.features, model.width)
        ),
    }


@pytest.mark.parametrize(
    "name", ["coop", "coop, double", "negative", "negative, double", "jointly", "cocoop"]
)
def test_every_learner_lowers_its_loss_and_nothing_else(model: Model, name: str) -> None:
    before = {key: value.clone() for key, value in model.clip.state_dict().items()}
    loop, batch = loops(model)[name](), (images(8, model.features), torch.arange(8) % 5)
    losses = [loop.step(*batch) for _ in range(12)]
    assert min(losses[-3:]) < losses[0]
    assert all(math.isfinite(loss) for loss in losses)
    if name == "negative, double":
        assert min(losses) >= math.log(1 + 4 / math.e)
    assert all(torch.equal(value, before[key]) for key, value in model.clip.state_dict().items())
    assert not any(parameter.requires_grad for parameter in model.clip.parameters())


LEARNERS = {
    "CoOp, paper": (steps.coop, preset("positive")),
    "CoOp, official": (steps.coop, preset("positive", "official")),
    "negative in turn": (steps.negative, preset("negative", "official")),
    "negative jointly": (steps.negative_jointly, preset("negative")),
    "CoCoOp": (steps.cocoop, preset("positive", learner="cocoop")),
    "CoCoOp test": (steps.cocoop_test, preset("positive", learner="cocoop")),
}


@pytest.mark.parametrize("name", LEARNERS)
def test_ours_goes_the_way_of_the_plain_loop(model: Model, name: str) -> None:
    """Ten losses agree only if nine updates do."""
    make, settings = LEARNERS[name]
    tower = model.tower("torch")
    ground = Ground(model, {"lsn": tower}, class_names(5), torch.device("cpu"))
    made = make(ground, replace(settings, length=4))
    expected = torch.stack([made[PLAIN]() for _ in range(10)])
    found = torch.stack([made["lsn"]() for _ in range(10)])
    torch.testing.assert_close(found.float(), expected.float(), rtol=1e-4, atol=1e-5)
    assert name == "CoCoOp test" or len(set(expected.tolist())) == 10
