"""A digest of code changes exactly when code changes that is reached."""

import re
from pathlib import Path

import numpy as np
import pytest
from edited_code import added, edited, functions_called, replaced

from lsncli.backbones import loader_of
from lsncli.bench.jobs import CODE, IN_THE_KEY
from lsncli.bench.training_jobs import LEARNERS, LearningSpec
from lsncli.errors import LsnError
from lsncli.methods import source_digest as code
from lsncli.methods.scoring import _code as code_of_scoring
from lsncli.methods.source_digest import code_of, reached
from lsncli.reference.classes import class_list
from lsncli.scores import SCORES, load_score, score_settings
from lsncli.types import Head, Rows, unit

PACKAGE = Path(code.__file__).parents[1]

MAIN = '''
"""A module."""
from lsncli.sample_b import helper, other as second
import lsncli.sample_c as sample_c
import numpy as np

LIMIT = 3

def root(x: "Kind") -> int:
    """Say so."""
    from lsncli.sample_b import late
    return helper(x) + second(x) + late(x) + sample_c.read() + LIMIT + np.sum(x)

class Kind(sample_c.Base):
    def method(self): return self.x

def unused(): return 1
'''
SECOND = """
from lsncli.sample_c import far
def helper(x): return far(x)
def other(x): return x
def late(x): return 7
def unused(): return 2
"""
THIRD = """
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from lsncli.sample_b import Thing
TABLE = {"one": "lsncli.sample_b:helper"}
ROWS = {"one": dict(load="lsncli.sample_b:helper", about="One.")}
class Base:
    def of(self): return TABLE, ROWS
def far(x): return x
def read(): return far(1)
def unused(): return 3
"""
MODULES = {"lsncli.sample_a": MAIN, "lsncli.sample_b": SECOND, "lsncli.sample_c": THIRD}


def digest(**changes: tuple[str, str]) -> str:
    """The digest of ``root`` after replacing one text by another in ``a``, ``b`` or ``c``."""
    sources = dict(MODULES)
    for letter, (old, new) in changes.items():
        assert old in sources[f"lsncli.sample_{letter}"]
        sources[f"lsncli.sample_{letter}"] = sources[f"lsncli.sample_{letter}"].replace(old, new)
    with edited(sources):
        return code_of("lsncli.sample_a:root")


@pytest.mark.parametrize(
    "change",
    [
        {"a": ('"""Say so."""', '"""Say it otherwise."""')},
        {"a": ("LIMIT = 3", "LIMIT   =   3  # a comment")},
        {"a": ("return 1", "return 11")},
        {"b": ("return 2", "return 22")},
        {"c": ("return 3", "return 33")},
        {"a": ("import numpy as np", "import os\nimport numpy as np")},
        {"c": ('"lsncli.sample_b:helper"}', '"lsncli.sample_b:helper", "two": "lsncli.sample_b:other"}')},
        {"c": ('{"one": "lsncli.sample_b:helper"}', '{"one": "lsncli.elsewhere:helper"}')},
        {"c": ('about="One.")', 'about="1"), "two": ("lsncli.sample_b:other", print)')},
    ],
)
def test_what_is_not_reached_or_is_not_code_changes_no_digest(change) -> None:
    assert digest(**change) == digest()


@pytest.mark.parametrize(
    "change",
    [
        {"a": ("LIMIT = 3", "LIMIT = 4")},
        {"a": ("import numpy as np", "import torch as np")},
        {"a": ("+ LIMIT", "- LIMIT")},
        {"a": ("return self.x", "return self.y")},
        {"a": ("def unused(): return 1", "sample_c.far = None")},
        {"b": ("def other(x): return x", "def other(x): return -x")},
        {"b": ("return 7", "return 8")},
        {"c": ("def far(x): return x", "def far(x): return -x")},
        {"c": ("read(): return far(1)", "read(): return far(2)")},
        {"c": ("def of(self)", "def of(self, more=1)")},
        {"c": ("def unused(): return 3", "setattr(Base, 'of', None)")},
        {"a": ("import helper, other as second", "import other as helper, helper as second")},
    ],
)
def test_what_is_reached_changes_the_digest(change) -> None:
    assert digest(**change) != digest()


def test_moving_a_definition_changes_no_digest() -> None:
    moved = MODULES | {
        "lsncli.sample_b": SECOND.replace("def other(x): return x\n", ""),
        "lsncli.sample_d": "def other(x): return x\n",
        "lsncli.sample_a": MAIN.replace(
            "import helper, other as second", "import helper\nfrom lsncli.sample_d import other as second"
        ),
    }
    with edited(moved):
        assert code_of("lsncli.sample_a:root") == digest_of_samples()
    together = MODULES | {"lsncli.sample_b": SECOND.replace("from lsncli.sample_c import far\n", "")}
    together["lsncli.sample_b"] += "def far(x): return x\n"
    together["lsncli.sample_c"] = THIRD.replace("def far(x): return x\n", "from lsncli.sample_b import far\n")
    with edited(together):
        assert code_of("lsncli.sample_a:root") == digest_of_samples()


def digest_of_samples() -> str:
    with edited(MODULES):
        return code_of("lsncli.sample_a:root")


def test_what_is_left_out_is_not_followed() -> None:
    def without(**change: tuple[str, str]) -> str:
        sources = {name: text.replace(*change.get(name[-1], ("", ""))) for name, text in MODULES.items()}
        with edited(sources):
            return code_of("lsncli.sample_a:root", without=("lsncli.sample_b:helper",))

    assert without(b=("return far(x)", "return -far(x)")) == without()
    assert without(a=("LIMIT = 3", "LIMIT = 4")) != without()


def test_a_module_without_source_is_refused() -> None:
    with pytest.raises(LsnError, match=r"source of the module 'lsncli.nowhere'"):
        code_of("lsncli.nowhere:thing")


def test_data_that_code_names_counts(monkeypatch) -> None:
    before = code_of(class_list)
    monkeypatch.setattr(code, "_data", lambda module, name: f"{module} {name}".encode())
    with edited({"lsncli.reference.classes": added("")}):
        assert code_of(class_list) != before


# -- the scores and the results of this package


def all_keys() -> dict[str, str]:
    """The code part of the key of everything that is kept."""
    model = loader_of("mini")
    return {
        "scoring": code_of_scoring(),
        **{f"score {name}": code_of(*load_score(name).code()) for name in SCORES},
        **{f"result {name}": result_code(name) for name in SCORES},
        **{f"learned {kind}": LearningSpec(kind).key("mini", "", (), 0) for kind in LEARNERS},
        "text": code_of("lsncli.prompts.text_features:text_features", *model),
    }


def result_code(name: str) -> str:
    from lsncli.methods.inputs import INPUTS

    score = load_score(name)
    inputs = [INPUTS[kind]] if (kind := score.inputs()) else []
    return code_of(*CODE, *score.code(), *inputs, *loader_of("mini"), without=IN_THE_KEY)


BEFORE = all_keys()


def changed(changes) -> set[str]:
    with edited(changes):
        after = all_keys()
    return {name for name in BEFORE if BEFORE[name] != after[name]}


def test_a_change_of_unit_changes_every_key_that_computes_with_features() -> None:
    broken = changed({"lsncli.types": replaced("wide / np.where(norms == 0, 1.0, norms)", "wide")})
    assert {f"result {name}" for name in SCORES} <= broken
    # The class of ZOC only says that a feature is not enough; its inputs score.
    assert {f"score {name}" for name in SCORES} - broken == {"score zoc"}
    assert "scoring" in broken
    assert {"learned positive", "learned linear"} <= broken


OTHERS = {"residual": {"vim"}, "mincm": {"lsn"}}
OTHERS |= {name: {"ensemble"} for name in ("mcm", "energy", "mahalanobis")}
"""Scores that another one is made from."""


@pytest.mark.parametrize("name", SCORES)
def test_a_change_of_one_score_changes_only_its_own_keys(name: str) -> None:
    module = SCORES[name].partition(":")[0]
    own = {name} | OTHERS.get(name, set())
    expected = {f"{what} {each}" for what in ("score", "result") for each in own}
    assert changed({module: added("del nothing")}) == expected


def test_a_new_score_changes_no_key() -> None:
    row = '    "newest": "lsncli.scores.newest:Newest",\n'
    registry = replaced("SCORES = {\n", "SCORES = {\n" + row)
    assert changed({"lsncli.scores": registry, "lsncli.scores.newest": "class Newest: ..."}) == set()


def test_a_change_of_the_metrics_changes_recorded_results_and_no_scores() -> None:
    broken = changed({"lsncli.metrics": replaced("return (m - int(", "return (1 + m - int(")})
    assert broken == {f"result {name}" for name in SCORES}


def test_a_change_of_learning_changes_what_is_learned_so() -> None:
    assert changed({"lsncli.prompts.learner": added("del nothing")}) == {
        f"learned {kind}" for kind in ("positive", "negative", "dualcoop")
    }
    faster = replaced('"maxiter": MAX_ITERATIONS', '"maxiter": 1')
    assert changed({"lsncli.training.linear_probe": faster}) == {"learned linear"}


def test_a_change_of_how_a_model_encodes_text_changes_what_depends_on_its_text() -> None:
    broken = changed({"lsncli.prompts.fast_tower": added("del nothing")})
    assert broken == {name for name in all_keys() if not name.startswith("score ") and name != "scoring"}


def test_code_that_makes_no_number_changes_no_key() -> None:
    rooms = ("cli", "report", "images", "bench/figures", "extraction/engines", "backbones/blip.py")
    rooms += ("api.py", "api_selection.py")
    files = [path for room in rooms for path in [PACKAGE / room, *(PACKAGE / room).glob("*.py")]]
    names = [str(path.relative_to(PACKAGE.parent).with_suffix("")) for path in files if path.suffix]
    modules = [re.sub(r"/__init__$", "", name).replace("/", ".") for name in names]
    assert len(modules) > 80
    assert changed(dict.fromkeys(modules, added("del nothing"))) == set()


def test_moving_a_module_of_this_package_changes_no_key() -> None:
    """``types.unit`` in another module, which all others import it from."""
    text = (PACKAGE / "types.py").read_text()
    start = text.index("def unit(")
    end = text.index("@dataclass", start)
    moves = {
        "lsncli.vectors": "import numpy as np\nfrom lsncli.types import Float64Array, FloatArray\n"
        + text[start:end],
        "lsncli.types": text[:start] + "from lsncli.vectors import unit\n" + text[end:],
    }
    assert changed(moves) == set()


@pytest.mark.parametrize("name", sorted(set(SCORES) - {"zoc", "neglabel", "eoe"}))
def test_no_code_runs_in_a_score_that_is_not_in_its_key(name: str) -> None:
    random = np.random.default_rng(0)
    text = unit(random.normal(size=(2, 3, 8)))
    head = Head(("a", "b", "c"), text[0], 100.0, text[1:])
    labels = np.arange(60, dtype=np.int32) % 3
    features = (text[0][labels] + 0.1 * random.normal(size=(60, 8))).astype(np.float16)
    score = load_score(name, **({"epochs": 1} if "epochs" in score_settings(name) else {}))
    with functions_called(set()) as called:
        learned = score.fit(head, Rows(features, labels))
        score.scorer(head, learned)(features)
    assert called
    assert called <= {each for root in score.code() for each in reached(root)}
