"""Make the pages of the site that have their text elsewhere, and its links: a hook of MkDocs, see mkdocs.yml.

Pages of scores come from docstrings, the Python API from ``lsncli.__all__``, the paper's tables from
``lsn bench --published``; README and others lie outside ``docs/``. In Markdown, links lead to files of the
repository, so they work there; here they become links to pages, or to the repository for all other files.
"""

import json
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

import draw_rooms
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from score_pages import score_page
from typer.testing import CliRunner

import lsncli
from lsncli.cli.app import app
from lsncli.reference import published
from lsncli.scores import SCORES

ROOT = Path(__file__).parents[1]
REPOSITORY = "https://github.com/lsncli/lsncli/blob/main"
ELSEWHERE = {
    "index.md": "README.md",
    "contributing.md": "CONTRIBUTING.md",
    "security.md": "SECURITY.md",
    "changelog.md": "CHANGELOG.md",
    "store-format.md": "lsncli/store/README.md",
    "mini-model.md": "lsncli/backbones/mini_weights/MODEL_CARD.md",
    "benchmarks.md": "benchmarks/README.md",
    "recorded-results.md": "benchmarks/results/README.md",
}
"""Pages of the site -> files of the repository outside ``docs/``."""
RESULTS = ROOT / "benchmarks" / "results"

LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)#\s]+)")
FENCE = re.compile(r"^(```.*?^```)", re.MULTILINE | re.DOTALL)
BADGES = re.compile(r"^\[!\[.*\n", re.MULTILINE)
PICTURE = re.compile(r"<picture>\n.*\n(<img .*>)\n</picture>")
SHOWN = re.compile(r"(?<=<img src=\")docs/")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the pages of scores and the decisions to the navigation."""
    decisions = sorted(path.name for path in (ROOT / "docs/decisions").glob("*.md"))
    add(config.nav, "Methods", [f"methods/{name}.md" for name in SCORES])
    add(config.nav, "Decisions", [f"decisions/{name}" for name in decisions])
    return config


def add(nav: list[dict[str, list[str]]], title: str, pages: list[str]) -> None:
    """Append ``pages`` to the section ``title`` of the navigation."""
    (section,) = (item[title] for item in nav if title in item)
    section += [page for page in pages if page not in section]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    for name, text in pages():
        files.append(File.generated(config, name, content=text))
    return files


def pages() -> Iterator[tuple[str, str]]:
    """The name and the Markdown of every page that has no file in ``docs/``."""
    for name, source in ELSEWHERE.items():
        yield name, (ROOT / source).read_text(encoding="utf-8")
    for name in SCORES:
        yield f"methods/{name}.md", score_page(name)
    yield "decisions/index.md", decisions_page()
    yield "tables.md", tables_page()
    yield "api.md", api_page()


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Rewrite links, and draw what Markdown on GitHub draws with scripts."""
    name = page.file.src_uri
    if name == "index.md":
        markdown = SHOWN.sub("", PICTURE.sub(in_both_schemes, BADGES.sub("", markdown)))
    if name == "architecture.md":
        markdown = draw_rooms.BLOCK.sub(lambda _: f"{draw_rooms.picture()}\n", markdown)
    if name == "methods.md":
        markdown = re.sub(r"^\| `(\w+)` \|", score_link, markdown, flags=re.MULTILINE)
    pieces = FENCE.split(markdown)
    links = [
        piece if n % 2 else LINK.sub(lambda m: target(name, m[1]), piece) for n, piece in enumerate(pieces)
    ]
    return "".join(links)


def in_both_schemes(found: re.Match[str]) -> str:
    """The light picture and the dark one; the site shows the one of its own scheme, not of the system's."""
    light = found[1].replace(".png", ".png#only-light")
    return light + found[1].replace("-light.png", "-dark.png#only-dark")


def score_link(found: re.Match[str]) -> str:
    """The first cell of a table's row; one that names a score links to its page."""
    name = found[1]
    return f"| [`{name}`](methods/{name}.md) |" if name in SCORES else found[0]


def target(page: str, link: str) -> str:
    """Where a link of ``page`` leads on the site; links to files that are no pages lead to the repository."""
    if page not in ELSEWHERE and not (ROOT / "docs" / page).exists():
        return link  # a generated page: its links are those of the site
    source = ELSEWHERE.get(page, f"docs/{page}")
    named = posixpath.normpath(posixpath.join(posixpath.dirname(source), link))
    if not (ROOT / named).exists():
        return link
    known = {file: name for name, file in ELSEWHERE.items()} | {"docs/decisions": "decisions/index.md"}
    if named not in known and not named.startswith("docs/"):
        return f"{REPOSITORY}/{named}"
    on_site = known.get(named, named.removeprefix("docs/"))
    return posixpath.relpath(on_site, posixpath.dirname(page) or ".")


def decisions_page() -> str:
    """The list of decisions."""
    lines = ["# Decisions", "Why things are as they are, with what was measured. Newest last.", ""]
    for path in sorted((ROOT / "docs/decisions").glob("0*.md")):
        title = path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
        number, _, words = title.partition(". ")
        lines.append(f"{number}. [{words}]({path.name})")
    return "\n".join(lines) + "\n"


def tables_page() -> str:
    """The published numbers, as ``lsn bench --published`` prints them, and Table 3 as measured."""
    parts = ["# The paper's tables"]
    parts.append(
        "The numbers that the paper and later methods publish, in percent, as "
        "`lsn bench --table N --published` prints them. "
        "`lsn bench --table N --suite paper --data DIR` measures a table on your images, beside these; "
        "`--suite mini` needs no images for most tables. [Suites](suites.md) describes data and cost; "
        "[what the mini suite says of later methods](methods.md#later-methods-on-the-mini-suite)."
    )
    for key in published.TABLES:
        done = CliRunner().invoke(app, ["bench", "--table", key, "--published", "--format", "md"])
        if done.exit_code:
            raise RuntimeError(done.output)
        title = "Methods since the paper" if key == published.LATER else f"Table {key}"
        parts += [f"## {title}", done.stdout.strip()]
    parts += [
        "## Table 3 as measured with the mini model",
        "The same images and splits as the paper's, but the bundled mini model instead of CLIP's ViT-B/16: "
        "`lsn bench --table 3 --suite mini --format md`. n is the number of splits.",
        (RESULTS / "table3-mini.md").read_text(encoding="utf-8").strip(),
        "## All methods on Imagenette, with the mini model",
        "Averages over textures, places, flowers and scenes, in percent, best AUROC first: "
        "[methods-imagenette.json](recorded-results.md). One seed, an easy case: the ten classes differ "
        "much from each other and from the OOD images. On images of your own: `lsn eval --method all`.",
        "\n".join(["| method | head | FPR95↓ | AUROC↑ |", "|---|---|---:|---:|", *measured_rows()]),
    ]
    return "\n\n".join(parts) + "\n"


def measured_rows() -> Iterator[str]:
    """A row for each method of the recorded comparison."""
    rows = json.loads((RESULTS / "methods-imagenette.json").read_text(encoding="utf-8"))
    averages = [row for row in rows if row["ood"] == "average"]
    for row in sorted(averages, key=lambda row: -row["auroc"]):
        yield f"| {row['method']} | {row['head']} | {100 * row['fpr95']:.1f} | {100 * row['auroc']:.1f} |"


def api_page() -> str:
    """Everything in ``lsncli.__all__``, from docstrings."""
    names = [name for name in lsncli.__all__ if not name.startswith("_")]
    parts = [
        "# Python API",
        "Everything that `import lsncli` makes public. All else may change between releases.",
    ]
    parts += ["[How to use it, with examples](python.md)", *(f"::: lsncli.{name}" for name in names)]
    return "\n\n".join(parts) + "\n"
