"""The documentation site: every page is in its navigation, formulas are rendered, and it builds strictly."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml

import lsncli
from lsncli.scores import SCORES

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
NAV = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
SECTIONS = [
    "Start",
    "Guide",
    "Methods",
    "The paper's tables",
    "At scale",
    "Python API",
    "CLI",
    "Store format",
    "Decisions",
    "Contributing",
]


@pytest.fixture(scope="module")
def formulas() -> ModuleType:
    return load("formulas")


def load(name: str) -> ModuleType:
    """A script of docs/, which find each other as neighbours."""
    sys.path.insert(0, str(DOCS))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(DOCS))


def shown(mathml: str) -> str:
    """The text of a formula, without its tags."""
    return re.sub(r"<[^>]+>", "", mathml)


def test_the_navigation_has_every_section_and_every_page_of_docs() -> None:
    assert [title for section in NAV for title in section] == SECTIONS
    listed = [page for section in NAV for pages in section.values() for page in pages]
    assert len(listed) == len(set(listed))
    assert {path.name for path in DOCS.glob("*.md")} <= set(listed)


def test_a_formula_becomes_mathml(formulas: ModuleType) -> None:
    inside = formulas.whole("S(x) = max_c softmax_c(cos(x, t_c) / tau)")
    assert "<munder><mo>max</mo><mrow><mi>c</mi></mrow></munder>" in inside
    assert "<msub><mi>t</mi><mrow><mi>c</mi></mrow></msub>" in inside
    assert re.search(r"<mfrac>.*cos.*<mi>τ</mi>.*</mfrac>", inside)
    assert shown(inside) == "S(x)=maxcsoftmaxc(cos(x,tc)τ)"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("-||x - b_(k)||", "−‖x−b(k)‖"),
        ("(x - mu_c)^T Sigma^-1 (x - mu_c)", "(x−μc)TΣ−1(x−μc)"),
        ("(1 - n^k) / tau_bar", "1−nkτ̄"),
        ("sum_{u in U(x)} softmax_u(s cos(x, t))", "∑u∈U(x)softmaxu(scos(x,t))"),
        ("|z - p_c|^2 / D", "|z−pc|2D"),
        ("w >= 0", "w≥0"),
        ("z^T B' (1 + B')^-1 z", "zTB′(1+B′)−1z"),
    ],
)
def test_signs_and_brackets_of_formulas(formulas: ModuleType, text: str, expected: str) -> None:
    assert shown(formulas.whole(text)) == expected


@pytest.mark.parametrize("text", ["the largest", "a / ", "|x", "max_c softmax(", "x_", "1 + words here,"])
def test_what_is_no_formula_is_refused(formulas: ModuleType, text: str) -> None:
    with pytest.raises(formulas.NoFormula):
        formulas.whole(f"{text} .")


def test_formulas_in_a_sentence_are_marked_and_words_and_code_stay(formulas: ModuleType) -> None:
    text = 'With y_c = cos(x, t_c), a "K = 1" row is `x_d`, see max_c y_c. A mean of github.com/a/b_c/d.py.'
    marked = formulas.marked(text)
    assert [shown(one) for one in re.findall(r"<math>.*?</math>", marked)] == ["yc=cos(x,tc)", "maxcyc"]
    assert re.sub(r"<span.*?</span>", "#", marked) == (
        'With #, a "K = 1" row is `x_d`, see #. A mean of github.com/a/b_c/d.py.'
    )
    assert formulas.marked("K = D - round(D percentile / 100) entries") == (
        "K = D - round(D percentile / 100) entries"  # goes on in words: nothing rather than a half
    )


@pytest.mark.parametrize("name", SCORES)
def test_the_page_of_a_score_has_its_formula_references_and_settings(name: str) -> None:
    page = load("score_pages").score_page(name)
    assert '<div class="formula">' in page.split("\n\n")[1]
    assert "**Paper**: " in page
    assert re.search(r"\*\*Source\*\*: \[github\.com/", page)
    assert f"lsn eval --method {name}\n" in page
    outside = re.sub(r"<math.*?</math>|`[^`]*`|\"[^\"]*\"|\([^)]*\)", "", page)
    assert not re.search(r"\b(?:softmax|max|min|sum|cos)_\w|\|\|", outside)


def test_make_docs_is_strict() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (build,) = re.findall(r"mkdocs build.*", makefile)
    assert build == "mkdocs build --strict"  # with --quiet, warnings would not be counted


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if importlib.util.find_spec("material") is None or importlib.util.find_spec("mkdocstrings") is None:
        pytest.skip("THE SITE IS NOT BUILT: pip install -e '.[docs]'")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_site_builds_strictly_and_loads_nothing_from_elsewhere(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 60
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"<(?:script|img|iframe)[^>]*\ssrc=\"?(?:https?:)?//", text), page.name
        assert not re.search(r"<link[^>]*rel=\"?(?:stylesheet|preconnect)[^>]*//", text), page.name
        assert 'class="mermaid"' not in text  # would load a script from elsewhere


def test_the_site_has_scores_tables_and_the_python_api(site: Path) -> None:
    assert {path.stem for path in (site / "methods").glob("*.html")} == set(SCORES)
    tables = (site / "tables.html").read_text(encoding="utf-8")
    assert "98.92" in tables  # CoCoOp + LSN on iNaturalist, Table 1
    assert "97.5" in tables.rpartition("All methods on Imagenette")[2]  # VOS, the first row
    api = (site / "api.html").read_text(encoding="utf-8")
    for name in lsncli.__all__:
        assert name.startswith("_") or f'id="lsncli.{name}"' in api
    assert 'id="lsncli.Detector.score_frame"' in api
    assert "<svg" in (site / "architecture.html").read_text(encoding="utf-8")
