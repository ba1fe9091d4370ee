"""The page as text: it holds everything it needs, allows nothing else, and no name can break out of it."""

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from page_samples import CLASSES, HOSTILE, sample, scored

from lsncli.console import printable
from lsncli.detection.scored_sets import VerdictArrays
from lsncli.metrics import evaluate_scores
from lsncli.report.contents import Report
from lsncli.report.page.build import build_page
from lsncli.report.page.data import CURVE, FAILURES, QUANTILES, page_data


class Tags(HTMLParser):
    """Every tag with its attributes, and the text inside script and style."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {"script": [], "style": []}
        self._open = ""

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open = tag

    def handle_endtag(self, tag) -> None:
        self._open = ""

    def handle_data(self, data) -> None:
        if self._open in self.texts:
            self.texts[self._open].append(data)


def parsed(page: str) -> Tags:
    found = Tags()
    found.feed(page)
    return found


def hostile_report(**changes) -> Report:
    return sample([scored("images", "input", 60, 0.6, HOSTILE)], failures=len(HOSTILE), **changes)


def data_in(page: str) -> dict:
    return json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])


def array(text: str, kind: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), kind)


def test_the_page_needs_nothing_outside_itself() -> None:
    page = build_page(page_data(hostile_report()))
    tags = parsed(page).tags
    for tag, attributes in tags:
        assert "src" not in attributes
        assert tag not in ("iframe", "object", "embed", "base", "img")
        assert attributes.get("href") in (None, "#images", "data:,")
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
    scripts = [text for text in parsed(page).texts["script"] if not text.startswith("{")]
    assert "http" not in "".join(scripts).replace("http://www.w3.org/2000/svg", "")
    assert "innerHTML" not in page
    assert "url(" not in "".join(parsed(page).texts["style"])


def test_the_policy_allows_the_one_script_and_the_one_style_by_their_hashes() -> None:
    found = parsed(build_page(page_data(hostile_report())))
    meta = [attributes for tag, attributes in found.tags if tag == "meta"]
    policy = next(one["content"] for one in meta if one.get("http-equiv") == "Content-Security-Policy")
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert "unsafe" not in policy
    for name in ("script", "style"):
        text = found.texts[name][-1]
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert rules[f"{name}-src"] == f"'sha256-{digest}'"


def test_names_that_look_like_markup_stay_data() -> None:
    report = hostile_report()
    plain = sample([scored("images", "input", 60, 0.6)], failures=0)
    page = build_page(page_data(report))
    kinds = [tag for tag, _ in parsed(page).tags]
    assert kinds == [tag for tag, _ in parsed(build_page(page_data(plain))).tags]
    found = data_in(page)
    assert found["rows"]["path"][: len(HOSTILE)] == [printable(name) for name in HOSTILE]
    assert [one[1] for one in found["failures"]] == [printable(name) for name in HOSTILE]
    assert found["classes"] == list(CLASSES)
    assert page.isascii() or all(not c.isascii() for c in set(page) - set(map(chr, range(128))))
    assert not [c for c in page if not c.isprintable() and c != "\n"]


def test_numbers_arrive_to_the_bit() -> None:
    report = hostile_report()
    found = data_in(build_page(page_data(report)))
    judged = report.sets[0].judged
    (one,) = found["sets"]
    assert np.array_equal(array(one["scores"], "<f8"), judged.scores)
    assert np.array_equal(array(one["predicted"], "<i4"), judged.predicted)
    assert np.array_equal(array(found["rows"]["positive"], "<f8"), judged.positive)
    assert np.array_equal(array(found["rows"]["negative"], "<f8"), judged.negative)
    pictures = array(found["rows"]["picture"], "<i4")
    assert list(pictures[:40]) == list(range(40))
    assert set(pictures[40:]) == {-1}
    assert base64.b64decode(found["pictures"][7].partition(",")[2]) == report.pictures[0][7]


def test_nearest_training_images_go_with_their_pictures() -> None:
    report = hostile_report(pictures=12)
    report = replace(report, nearest=({row: report.nearest[0][row] for row in (0, 5)},))
    found = data_in(build_page(page_data(report)))["nearest"]
    assert sorted(found, key=int) == [str(row) for row in range(12)]
    assert [row for row, like in found.items() if like] == ["0", "5"]
    assert found["5"] == [[printable(HOSTILE[5]), "cat", 0.9], ["5.jpg", "", -0.1]]
    assert data_in(build_page(page_data(replace(report, nearest=()))))["nearest"] == {}


def test_curves_agree_with_the_metrics() -> None:
    inside, near, far = (
        scored("test", "id", 300, 0.7),
        scored("near", "ood", 200, 0.6, seed=1),
        scored("far", "ood", 100, 0.3, seed=2),
    )
    found = page_data(sample([inside, near, far]))["curves"]
    assert [one["set"] for one in found] == [1, 2]
    for one, other in zip(found, (near, far), strict=True):
        metrics = evaluate_scores(inside.judged.scores, other.judged.scores)
        assert (one["auroc"], one["fpr95"]) == (metrics.auroc, metrics.fpr95)
        accepted, kept = array(one["accepted"], "<f8"), array(one["kept"], "<f8")
        assert len(accepted) <= CURVE
        assert (accepted[0], kept[0], accepted[-1], kept[-1]) == (0, 0, 1, 1)
        assert np.trapezoid(kept, accepted) == pytest.approx(metrics.auroc, abs=0.01)


def test_without_known_id_images_curves_stand_against_calibration() -> None:
    foreign = scored("far", "ood", 100, 0.3)
    report = sample([foreign])
    (found,) = page_data(report)["curves"]
    assert found["auroc"] == evaluate_scores(report.calibration.scores, foreign.judged.scores).auroc
    assert page_data(replace(report, calibration=None))["curves"] == []


def test_what_can_grow_without_end_is_bounded() -> None:
    report = sample([scored("images", "input", 50, 0.5)], failures=FAILURES + 5)
    scores = np.linspace(0, 1, 50_000)
    many = VerdictArrays(scores, np.zeros(50_000, dtype=np.int32), scores, scores)
    found = page_data(replace(report, calibration=many))
    assert (len(found["failures"]), found["failed"]) == (FAILURES, FAILURES + 5)
    kept = array(found["calibration"]["scores"], "<f8")
    assert len(kept) == QUANTILES
    assert np.searchsorted(kept, 0.3) / QUANTILES == pytest.approx(0.3, abs=1e-3)
    assert found["calibration"]["count"] == 50_000


@pytest.mark.parametrize("parts", [True, False])
def test_a_set_without_readable_images_and_a_score_without_parts_are_shown(parts: bool) -> None:
    full = scored("some", "input", 10, 0.5)
    if not parts:
        bare = VerdictArrays(full.judged.scores, full.judged.predicted)
        full = replace(full, judged=bare)
    nothing = VerdictArrays(np.empty(0), np.empty(0, dtype=np.int32))
    empty = type(full)("none", "input", "", nothing, np.empty(0, dtype=np.int32), names=[])
    found = page_data(sample([empty, full]))
    assert (found["rows"]["positive"] is not None) == parts
    assert len(found["rows"]["path"]) == 10
    alone = page_data(sample([empty]))
    assert alone["low"] < alone["gamma"] < alone["high"]
    build_page(alone)


def test_heat_maps_belong_to_their_pictures() -> None:
    sets = [scored("one", "input", 8, 0.5), scored("two", "input", 8, 0.5)]
    found = page_data(sample(sets, pictures=5, explained=2))["looks"]
    assert sorted(found) == [0, 1, 5, 6]
    assert [prompt for prompt, _ in found[5]] == ["positive", "negative 1"]
    assert all(url.startswith("data:image/jpeg;base64,/9j/") for looks in found.values() for _, url in looks)
