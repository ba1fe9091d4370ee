"""How users name a method, and everything they can get wrong."""

import pytest
from workspace_samples import NEG, POS, workspace

from lsncli.app import train
from lsncli.app.methods import Method, parse_method, settled
from lsncli.errors import LsnError, UsageError
from lsncli.scores import SCORES
from lsncli.scores.knn import Knn
from lsncli.scores.lsn import Lsn


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mcm", Method("mcm", "hand", {})),
        ("mcm:positive", Method("mcm", "positive", {})),
        ("lsn", Method("lsn", "positive", {})),
        ("lsn:hand", Method("lsn", "hand", {})),
        ("knn,k=10", Method("knn", "hand", {"k": 10})),
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
        ("mcm:learned", "expected prompts hand or positive, found 'learned'", ""),
        ("mcm:positive:hand", "expected prompts hand or positive, found 'positive:hand'", ""),
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
        ("lsn,form=fancy", "must be 'paper' or 'official', found 'fancy'", ""),
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


def test_labels_are_the_papers_and_always_show_what_was_changed() -> None:
    labels = {text: parse_method(text).label for text in ("mcm", "mcm:positive", "lsn", "knn", "lsn:hand")}
    assert labels == {
        "mcm": "MCM",
        "mcm:positive": "CoOp + MCM",
        "lsn": "CoOp + LSN",
        "knn": "knn",
        "lsn:hand": "lsn",
    }
    assert parse_method("mcm:positive,tau=2").label == "CoOp + MCM,tau=2.0"


def test_settings_are_filled_in(tmp_path, tiny_backbone) -> None:
    work = workspace(tmp_path, tiny_backbone.fingerprint)
    assert settled(parse_method("knn,k=3"), work) == (Knn(k=3), {"k": 3})
    with pytest.raises(LsnError, match="no negative-prompts artefact"):
        settled(parse_method("lsn"), work)


@pytest.mark.parametrize("mode", ["paper", "official"])
def test_lsn_takes_the_form_its_negative_prompts_learned_in(tmp_path, tiny_backbone, mode: str) -> None:
    from dataclasses import replace

    work = workspace(tmp_path, tiny_backbone.fingerprint)
    train.train_positive(work, tiny_backbone, train.plan_positive(work), replace(POS, epochs=1))
    train.train_negative(
        work, tiny_backbone, train.plan_negative(work), replace(NEG, epochs=1, sets=1, mode=mode)
    )
    assert settled(parse_method("lsn"), work)[0] == Lsn(form=mode)
    assert settled(parse_method("lsn,form=paper"), work)[0] == Lsn(form="paper")
