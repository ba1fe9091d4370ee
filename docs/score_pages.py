"""Write the page of a score for the site, from its docstring: formulas, references, settings, commands."""

import inspect
import re
from collections.abc import Iterator

import formulas

from lsncli.methods.spec import default_head
from lsncli.scores import load_score, score_settings
from lsncli.scores.score import NEEDS

MAIN = re.compile(r"\bS\(x\) =")
FORM = re.compile(r"^\* form \"(\w+)\"[^:\n]*: ", re.MULTILINE)
INTRODUCED = re.compile(r"^Formula.*?:\s", re.MULTILINE | re.DOTALL)
END = re.compile(r"[,;.:]|\s*$")
COMPUTES = re.compile(r"[(/=]|max|min|sum")


def score_page(name: str) -> str:
    """A score: its formulas, its docstring, references, settings, and the commands that use it."""
    score = load_score(name)
    paragraphs = inspect.cleandoc(type(score).__doc__ or "").split("\n\n")
    parts = [f"# {name}", *displayed(paragraphs)]
    parts += [paragraph(text) for text in paragraphs]
    if score.REDUCED:
        parts.append(f"**Reduced form:** {score.REDUCED}.")
    needs = [
        NEEDS[need] for need in sorted(score.NEEDS) if (need, "labels" in score.NEEDS) != ("train", True)
    ]
    parts += ["## Settings", settings_table(name)]
    parts.append(f"Needs: {', '.join(['features', *needs])}. Default head: `{default_head(name) or 'none'}`.")
    commands = f"lsn eval --method {name}\nlsn calibrate --method {name}"
    parts += ["## Use it", f"```sh\n{commands}\n```"]
    parts.append("[All scores, heads and how a method is named](../methods.md)")
    return "\n\n".join(parts) + "\n"


def displayed(paragraphs: list[str]) -> Iterator[str]:
    """The formulas of a score, each on a line of its own."""
    text = "\n\n".join(one for one in paragraphs if not one.startswith("    "))
    starts = [(found.start(), "") for found in MAIN.finditer(text)]
    starts = starts or [(found.end(), found[1]) for found in FORM.finditer(text)]
    if not starts:  # the first formula after the words that introduce it
        starts = [(found.end(), "") for found in INTRODUCED.finditer(text)]
    for at, form in starts:
        inside, length = formulas.leading(text[at:])
        if not COMPUTES.search(text[at : at + length]):
            continue  # a sentence that begins with a symbol
        if not END.match(text[at + length :]):
            raise formulas.NoFormula(f"not understood to its end: {text[at:][:200]!r}")
        yield formulas.displayed(inside, f"form={form}" if form else "")


def paragraph(text: str) -> str:
    """A paragraph, list or block of a docstring as Markdown with formulas."""
    if text.startswith("    "):
        return formulas.displayed(formulas.whole(" ".join(text.split()).rstrip(".")))
    text = re.sub(r"\bgithub\.com/[\w.\-/]+\w", lambda found: f"[{found[0]}](https://{found[0]})", text)
    text = re.sub(r"^(Formula|Paper|Source|Default)\b", r"**\1**", text, flags=re.MULTILINE)
    return formulas.marked(text.replace("\n**", "\n\n**"))


def settings_table(name: str) -> str:
    """The settings of a score with their defaults."""
    rows = [f"| `{key}` | `{value}` |" for key, (_, value) in score_settings(name).items()]
    return "\n".join(["| setting | default |", "|---|---|", *rows]) if rows else "None."
