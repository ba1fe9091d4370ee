"""How users name a method, and everything they can get wrong."""

import pytest
from cocoop_samples import write_prompts
from workspace_samples import CLASSES, workspace

from lsncli.errors import LsnError, UsageError
from lsncli.methods.heads import Heads
from lsncli.methods.spec import Method, ResolvedMethod, parse_method, resolve_method
from lsncli.scores import SCORES
from lsncli.scores.knn import Knn
from lsncli.scores.lsn import Lsn
from lsncli.scores.mincm import MinCm


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mcm", Method("mcm", "hand", {})),
        ("mcm:positive", Method("mcm", "positive", {})),
        ("lsn", Method("lsn", "positive", {})),
        ("lsn:hand", Method("lsn", "hand", {})),
        ("knn,k=10", Method("knn", "hand", {"k": 10})),
        ("dualcoop", Method("dualcoop", "dualcoop", {})),
        ("clipn,form=ctw", Method("clipn", "clipn", {"form": "ctw"})),
        ("lsn:clipn", Method("lsn", "clipn", {})),
        ("mcm:positive,tau=2", Method("mcm", "positive", {"tau": 2.0})),
        (
            "lsn,tau=0.5,tau_bar=1e1,form=official",
            Method("lsn", "positive", {"tau": 0.5, "tau_bar": 10.0, "form": "official"}),
        ),
    ],
)
def test_a_method_is_a_score_on_prompts_with_settings(text: str, expected: Method) -> None:
    assert parse_method(text) == expected


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("", "There is no score ''", "mcm, msp"),
        ("fancy", "There is no score 'fancy'", "mcm, msp"),
        ("MCM", "There is no score 'MCM'", "mcm"),
        ("mcm:learned", "expected a head of hand, .*, found 'learned'", ""),
        ("mcm:positive:hand", "expected a head of hand, .*, found 'positive:hand'", ""),
        ("knn,k", "'k' of the score 'knn' must be a whole number, found ''", "k \\(a whole number, 50\\)"),
        ("knn,k=many", "must be a whole number, found 'many'", ""),
        ("knn,k=1.5", "must be a whole number, found '1.5'", ""),
        ("knn,k=0", "'k' must be a finite number above 0, found 0", ""),
        ("mcm,tau=warm", "must be a number, found 'warm'", "tau"),
        ("mcm,tau=nan", "must be a finite number above 0, found nan", ""),
        ("mcm,tau=-1", "must be a finite number above 0, found -1.0", ""),
        ("mcm,heat=1", "no setting 'heat'", "tau"),
        ("mcm,", "no setting ''", "tau"),
        ("msp,tau=1", "no setting 'tau'", "no settings"),
        ("lsn,form=fancy", "must be 'paper' or 'official' or 'logit', found 'fancy'", ""),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error_that_names_it(text: str, message: str, hint: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        parse_method(text)
    import re

    assert re.search(hint, caught.value.hint)


def test_every_score_can_be_named() -> None:
    for name in SCORES:
        assert parse_method(name).score == name


@pytest.mark.parametrize(
    "text",
    [
        "mcm",
        "mcm:positive",
        "lsn",
        "lsn:hand",
        "knn,k=10",
        "lsn:hand,tau=2.0,form=official",
        "clipn",
        "clipn:positive,form=ctw",
        "lsn:dualcoop",
    ],
)
def test_a_method_is_written_as_users_write_it(text: str) -> None:
    assert str(parse_method(text)) == text
    assert str(parse_method("lsn:positive")) == "lsn"
    assert str(parse_method("dualcoop:dualcoop,tau=0.5")) == "dualcoop,tau=0.5"


@pytest.fixture
def heads(tmp_path, tiny_backbone):
    """The heads of a workspace with prompts of these learners, where one is named."""

    def of(positive: str = "", negative: str = "", **given) -> Heads:
        work = workspace(tmp_path, tiny_backbone.fingerprint)
        if positive:
            write_prompts(work, tiny_backbone, "positive", positive)
        if negative:
            write_prompts(work, tiny_backbone, "negative", negative, **given)
        return Heads(work, CLASSES)

    return of


@pytest.mark.parametrize(
    ("positive", "negative", "labels"),
    [
        ("coop", "coop", ["CoOp + MCM", "CoOp + LSN", "LSN (CoOp negatives)", "CoOp + MinCM"]),
        ("cocoop", "cocoop", ["CoCoOp + MCM", "CoCoOp + LSN", "LSN (CoCoOp negatives)", "CoCoOp + MinCM"]),
        (
            "cocoop",
            "coop",
            [
                "CoCoOp + MCM",
                "CoCoOp + LSN (CoOp negatives)",
                "LSN (CoOp negatives)",
                "CoCoOp + MinCM (CoOp negatives)",
            ],
        ),
    ],
)
def test_labels_are_the_papers_and_tell_who_learned_what(heads, positive, negative, labels) -> None:
    made = heads(positive, negative)
    methods = ["mcm:positive", "lsn", "lsn:hand", "mincm"]
    assert [resolve_method(parse_method(text), made).label for text in methods] == labels


def test_labels_always_show_what_was_changed(heads) -> None:
    made = heads("coop")
    for text, label in (
        ("mcm", "MCM"),
        ("knn", "knn"),
        ("knn,k=10", "knn,k=10"),
        ("mcm:positive,tau=2", "CoOp + MCM,tau=2.0"),
        ("energy:positive", "CoOp + energy"),
    ):
        assert resolve_method(parse_method(text), made).label == label


def test_settings_are_filled_in(heads) -> None:
    made = heads()
    assert resolve_method(parse_method("knn,k=3"), made) == ResolvedMethod(Knn(k=3), {"k": 3}, "knn,k=3")
    with pytest.raises(LsnError, match="no negative-prompts artefact"):
        resolve_method(parse_method("lsn"), made)
    with pytest.raises(LsnError, match="no positive-prompts artefact"):
        resolve_method(parse_method("mcm:positive"), made)


def test_what_is_left_open_is_what_the_negative_prompts_were_learned_for(heads) -> None:
    made = heads("coop", "coop", score={"form": "official", "tau": 0.5, "tau_bar": 1.0})
    assert resolve_method(parse_method("lsn"), made).score == Lsn(tau=0.5, tau_bar=1.0, form="official")
    assert resolve_method(parse_method("lsn:hand,form=paper"), made).score == Lsn(0.5, 1.0, "paper")
    found = resolve_method(parse_method("mincm,tau_bar=3"), made)  # it has no tau
    assert found.score == MinCm(tau_bar=3.0, form="official")
    assert found.settings == {"tau_bar": 3.0, "form": "official"}
    assert found.label == "CoOp + MinCM,tau_bar=3.0,form=official"
    assert resolve_method(parse_method("mcm:positive"), made).settings == {"tau": 1.0}


@pytest.mark.parametrize("mode", ["paper", "official"])
def test_lsn_takes_the_form_of_the_preset_its_negative_prompts_learned_with(heads, mode: str) -> None:
    made = heads("coop", "coop", mode=mode)
    assert resolve_method(parse_method("lsn"), made).score == Lsn(form=mode)
    assert resolve_method(parse_method("lsn,form=paper"), made).score == Lsn(form="paper")


def test_a_learned_head_asks_for_no_learned_negatives(heads) -> None:
    made = heads()
    assert resolve_method(parse_method("lsn:clipn"), made).label == "LSN"
    assert resolve_method(parse_method("clipn"), made).settings == {"form": "atd"}


def test_settings_learned_for_lsn_are_not_those_of_another_score(heads) -> None:
    made = heads("coop", "coop", score={"form": "official", "tau": 0.5})
    assert resolve_method(parse_method("clipn:positive"), made).settings == {"form": "atd"}
    assert resolve_method(parse_method("dualcoop:positive"), made).settings == {"tau": 1.0}
