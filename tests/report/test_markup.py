"""Names from anywhere in Markdown, LaTeX and csv: a reader of the format sees the name, and nothing else."""

import csv
import io
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from lsncli.console import printable
from lsncli.report.formats import FORMATS, LATEX, Column, inert, latex_text, markdown_text, plain, render

READER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[click](javascript:alert(1))",
    "![x](http://host/pixel.png)",
    "<http://host/>",
    "[a]: http://host/",
    "`code`",
    "``",
    "*a* _b_ __c__ ~~d~~ **e**",
    "a|b",
    "a\\|b",
    "\\",
    "\\\\|",
    "&lt;b&gt; &#124; &amp",
    "$x^2$",
    "# title",
    "- item",
    "+ item",
    "1. item",
    "1) item",
    "=====",
    "---",
    "> quote",
    "    code",
    "~~~",
    "one\ntwo",
    "[x",
    "*x",
    "\x1b[31mred",
    "=1+1",
    "\udcff",
]
names = st.one_of(
    st.sampled_from(HOSTILE),
    st.text(st.sampled_from("\\`*_[]<>&|~$!#-+=.:;()\"'{}%^/@1a h"), max_size=12),
    st.text(max_size=12),
)


def written(name: str, form: str, title: str = "") -> str:
    file = io.StringIO(newline="")
    FORMATS[form].write(
        [{"path": name, "other": "x"}], [Column("path", "Path"), Column("other", "O")], file, title
    )
    return file.getvalue()


def shown(name: str) -> str:
    """What a reader of one line can see of a name: no blanks at its ends, no control characters."""
    return printable(name).strip(" ")


def markdown_texts(text: str) -> list[str]:
    """The texts of a Markdown document, one a block. Fails for all but text in tables and paragraphs."""
    blocks = {"table", "thead", "tbody", "tr", "th", "td", "paragraph", "inline"}
    found = []
    for token in READER.parse(text):
        assert token.type.removesuffix("_open").removesuffix("_close") in blocks, token
        if token.type == "inline":
            assert {child.type for child in token.children or ()} <= {"text"}, token
            found.append("".join(child.content for child in token.children or ()))
    return found


@given(names)
def test_a_markdown_cell_is_the_name_and_nothing_else(name: str) -> None:
    assert markdown_texts(written(name, "md")) == ["Path", "O", shown(name), "x"]


@given(names)
def test_a_markdown_paragraph_and_a_heading_are_the_text_and_nothing_else(name: str) -> None:
    sentence = shown(name)
    text = f"before\n{FORMATS['md'].paragraph(name)}\nafter\n"
    assert markdown_texts(text) == (["before", sentence, "after"] if sentence else ["before", "after"])
    heading = FORMATS["md"].heading
    assert heading is not None
    (inline,) = [token for token in READER.parse(heading(f"Scores of {name} (2)")) if token.type == "inline"]
    assert {child.type for child in inline.children} <= {"strong_open", "strong_close", "text"}


@pytest.mark.parametrize("address", ["http://host/x", "https://host", "www.host.org", "WWW.host.org"])
def test_an_address_does_not_become_a_link_by_itself(address: str) -> None:
    assert not re.search(r"https?://|(?<!\w)www\.", markdown_text(address), re.IGNORECASE)


def latex_read(text: str) -> str:
    """The characters that a piece of LaTeX stands for. Fails for a special one that is not escaped."""
    back = {code: character for character, code in LATEX.items()}
    tokens = re.compile("|".join(sorted(map(re.escape, back), key=len, reverse=True)) + "|.", re.DOTALL)
    found = []
    for token in tokens.findall(text):
        assert token in back or token not in set("&%$#_{}\\~^\n")
        found.append(back.get(token, token))
    return "".join(found)


@given(names)
def test_latex_shows_the_name_and_nothing_else(name: str) -> None:
    assert latex_read(latex_text(name)) == printable(name)
    (row,) = re.findall(r"\\midrule\n(.*?)\\bottomrule", written(name, "tex"), re.DOTALL)
    assert not row.lstrip().startswith(("[", "*"))  # \\ and \midrule would take it
    assert row.endswith(" & x \\\\\n")
    assert row.count("\n") == 1
    comment = FORMATS["tex"].paragraph(name)
    assert comment.startswith("% ")
    assert comment.count("\n") == 1


@given(names)
def test_csv_gives_the_name_back_and_no_formula(name: str) -> None:
    rows = list(csv.reader(io.StringIO(written(name, "csv"), newline="")))
    assert rows == [["path", "other"], [inert(plain(name)), "x"]]
    assert not re.match(r"[=+\-@\t\r\n]", rows[1][0]) or re.fullmatch(r"[-+]?[\d.eE+-]+", rows[1][0])


@pytest.mark.parametrize("form", ["md", "tex"])
def test_names_of_all_kinds_make_a_table_of_as_many_rows(tmp_path: Path, form: str) -> None:
    rows = [{"path": name, "other": "x"} for name in HOSTILE]
    render(rows, [Column("path", "Path"), Column("other", "Other")], form, tmp_path / "table")
    text = (tmp_path / "table").read_text(encoding="utf-8")
    assert len(text.splitlines()) == len(HOSTILE) + {"md": 2, "tex": 6}[form]
    if form == "md":
        assert markdown_texts(text)[2::2] == [shown(name) for name in HOSTILE]
