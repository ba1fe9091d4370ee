"""Turn the plain formulas of docstrings, such as ``max_c softmax_c(y / tau)``, into MathML.

Browsers show MathML by themselves, so the pages need no script, no font and no network.
"""

import re
from collections.abc import Callable
from html import escape

LETTERS = {
    "alpha": "α", "beta": "β", "gamma": "γ", "lambda": "λ", "mu": "μ", "tau": "τ", "tau_bar": "τ̄",
    "Sigma": "Σ",
}  # fmt: skip
FUNCTIONS = {
    "CE",
    "cos",
    "exp",
    "log",
    "logsumexp",
    "mean",
    "round",
    "sigmoid",
    "sign",
    "softmax",
    "sqrt",
    "tr",
}
LIMITS = {"max": "max", "min": "min", "sum": "∑"}
"""Operators with what they run over below them."""
SIGNS = {"<=": "≤", ">=": "≥", "-": "−", "*": "∗", ".": "·", "||": "‖", "in": "∈"}
RELATIONS = ("=", "<=", ">=", "<", ">", "in")
TOKEN = re.compile(
    r"(?P<gap>\s*)(?:"
    r"(?P<number>\d+(?:,\d{3})*(?:\.\d+)?(?:e-?\d+)?)|"
    r"(?P<word>tau_bar|[A-Za-z]+)(?P<tilde>~?)(?P<prime>'(?!\w))?|"
    r"(?P<sign><=|>=|\|\||(?<=\s)\.(?=\s)|[-+*/=<>()\[\]{},|_^]))"
)


THIN = '<mspace width="0.15em"/>'


class NoFormula(ValueError):
    """The text does not begin with a formula."""


class _Reader:
    """A formula from the start of a text, as far as it goes.

    ``words`` allows names such as "label" in it; ``tall`` writes ``a / b`` as a fraction.
    """

    def __init__(self, text: str, *, words: bool = False, tall: bool = True) -> None:
        self.text, self.at, self.words, self.tall, self.bars = text, 0, words, tall, 0
        self.bare: dict[str, str] = {}
        """What is in brackets, by the whole with its brackets, which a fraction does without."""

    def peek(self) -> re.Match[str] | None:
        return TOKEN.match(self.text, self.at)

    def sign(self) -> str:
        found = self.peek()
        return (found["sign"] or ("in" if found["word"] == "in" else "")) if found else ""

    def take(self, *signs: str) -> str:
        found = self.peek()
        if not found or self.sign() not in signs:
            raise NoFormula(f"expected one of {' '.join(signs)} at {self.text[self.at :][:30]!r}")
        self.at = found.end()
        return str(found["sign"] or found["word"])

    def optional(self, read: Callable[[], str]) -> str | None:
        """What ``read`` returns, or None and the old place if there is no formula."""
        start = self.at
        try:
            return read()
        except NoFormula:
            self.at = start
            return None

    def relation(self) -> str:
        """Sums and what is between them: ``S(x) = a + b``."""
        parts = [self.sum()]
        while self.sign() in RELATIONS and (more := self.optional(self._related)) is not None:
            parts.append(more)
        return "".join(parts)

    def _related(self) -> str:
        return operator(self.take(*RELATIONS)) + self.sum()

    def sum(self) -> str:
        parts = [self.product()]
        while self.sign() in ("+", "-") and (more := self.optional(self._added)) is not None:
            parts.append(more)
        return "".join(parts)

    def _added(self) -> str:
        return operator(self.take("+", "-")) + self.product()

    def product(self) -> str:
        """Factors side by side, with ``*`` or ``.`` between them; ``a / b`` is a fraction."""
        if self.sign() == "-":
            return operator(self.take("-")) + self.product()
        factors = [self.power()]
        while True:
            sign, found = self.sign(), self.peek()
            if sign == "/" and (below := self.optional(self._below)) is not None:
                factors[-1] = self.fraction(factors[-1], below)
            elif sign in ("*", ".") and (right := self.optional(self._times)) is not None:
                factors.append(right)
            elif sign == "-" and is_operator(factors[-1]) and self.optional(self._minus) is not None:
                factors.append(self.last)
            elif (right := self.optional(self.power)) is not None:
                factors.append((THIN if found and found["gap"] else "") + right)
            else:
                return "".join(factors)

    def _below(self) -> str:
        self.take("/")
        return self.power()

    def fraction(self, above: str, below: str) -> str:
        if not self.tall:
            return above + operator("/") + below
        above, below = (f"<mrow>{self.bare.get(part, part)}</mrow>" for part in (above, below))
        return f"<mfrac>{above}{below}</mfrac>"

    def _minus(self) -> str:
        self.take("-")
        self.last = operator("-") + self.power()
        return self.last

    def _times(self) -> str:
        return operator(self.take("*", ".")) + self.power()

    def power(self) -> str:
        """An atom with its scripts; ``max_c`` has its script below."""
        start = self.peek()
        name = start["word"] if start else None
        atom = self.atom()
        base = self.scripts(atom, below=name in LIMITS)
        following = self.peek()
        if name in FUNCTIONS and following and following["sign"] in ("(", "["):
            base = self.scripts(f"<mrow>{base}{self.atom()}</mrow>")
        if base == atom and atom in self.bare:
            self.bare[f"<mrow>{base}</mrow>"] = self.bare[atom]
        return f"<mrow>{base}</mrow>"

    def scripts(self, base: str, below: bool = False) -> str:
        low = high = None
        while (mark := self.sign()) in ("_", "^") and not self.peek()["gap"]:
            self.take(mark)
            low, high = (self.script(), high) if mark == "_" else (low, self.above())
        if low and below:
            return f"<munder>{base}{low}</munder>"
        if low and high:
            return f"<msubsup>{base}{low}{high}</msubsup>"
        if low or high:
            tag = "msub" if low else "msup"
            return f"<{tag}>{base}{low or high}</{tag}>"
        return base

    def above(self) -> str:
        """An exponent, without its brackets."""
        script = self.script()
        return f"<mrow>{self.bare[script]}</mrow>" if script in self.bare else script

    def script(self) -> str:
        """One letter or number, a word, ``-1``, ``+``, or anything in brackets or braces."""
        found = self.peek()
        if not found or found["gap"]:
            raise NoFormula("a script is missing")
        if found["sign"] == "{":
            self.take("{")
            inside = self.relation()
            self.take("}")
            return f"<mrow>{inside}</mrow>"
        if found["sign"] in ("-", "+"):
            sign = operator(self.take("-", "+"))
            return f"<mrow>{sign}{self.atom() if self.peek() and self.peek()['number'] else ''}</mrow>"
        if found["word"] and found["word"] not in LETTERS:
            self.at = found.end()
            word = found["word"]
            if len(word) > 2:
                return f"<mtext>{escape(word)}</mtext>"
            return f"<mrow>{''.join(f'<mi>{letter}</mi>' for letter in word)}</mrow>"
        return self.atom()

    def atom(self) -> str:
        found = self.peek()
        if not found:
            raise NoFormula(f"nothing to read at {self.text[self.at :][:30]!r}")
        word, sign = found["word"], found["sign"]
        if found["number"]:
            self.at = found.end()
            return f"<mn>{found['number']}</mn>"
        if word:
            return self._name(found, word)
        for opening, closing in (("(", ")"), ("[", "]")):
            if sign == opening:
                self.take(opening)
                parts, outer, self.bars = [self.relation()], self.bars, 0
                while self.sign() == ",":
                    parts.append(operator(self.take(",")) + self.relation())
                self.take(closing)
                self.bars = outer
                form = "" if self.tall else ' stretchy="false"'
                inside = "".join(parts)
                group = f"<mrow><mo{form}>{opening}</mo>{inside}<mo{form}>{closing}</mo></mrow>"
                self.bare[group] = inside
                return group
        if sign in ("|", "||") and not self.bars:
            self.take(sign)
            self.bars += 1
            inside = self.sum()
            self.bars -= 1
            self.take(sign)
            bar = SIGNS.get(sign, sign)
            return f'<mrow><mo stretchy="false">{bar}</mo>{inside}<mo stretchy="false">{bar}</mo></mrow>'
        raise NoFormula(f"no formula at {self.text[self.at :][:30]!r}")

    def _name(self, found: re.Match[str], word: str) -> str:
        if word in LIMITS:
            self.at = found.end()
            return f"<mo>{LIMITS[word]}</mo>"
        if word in FUNCTIONS:
            self.at = found.end()
            return f'<mi mathvariant="normal">{word}</mi>' if len(word) == 1 else f"<mi>{word}</mi>"
        if word in LETTERS or len(word) == 1 or word == "dW":
            self.at = found.end()
            letter = LETTERS.get(word, word) + ("′" if found["prime"] else "")
            return f"<mover><mi>{letter}</mi><mo>~</mo></mover>" if found["tilde"] else f"<mi>{letter}</mi>"
        if self.words and word != "in":
            self.at = found.end()
            return f"<mtext>{word}</mtext>"
        raise NoFormula(f"{word!r} is not in formulas")


def operator(sign: str) -> str:
    return f"<mo>{escape(SIGNS.get(sign, sign))}</mo>"


def is_operator(factor: str) -> bool:
    """Whether a factor is a sum or a maximum, after which a minus is a sign."""
    return factor.startswith(("<mrow><munder>", "<mrow><mo>"))


def leading(text: str, tall: bool = True) -> tuple[str, int]:
    """The MathML of the formula that ``text`` begins with, and its length. Raises NoFormula."""
    reader = _Reader(text, tall=tall)
    inside = reader.relation()
    return inside, reader.at


def whole(text: str) -> str:
    """The MathML of a text that is one formula and no more. Raises NoFormula."""
    reader = _Reader(text, words=True)
    inside = reader.relation()
    if text[reader.at :].strip():
        raise NoFormula(f"not understood: {text[reader.at :]!r} of {text!r}")
    return inside


def displayed(inside: str, label: str = "") -> str:
    """A formula on a line of its own, after a ``label`` if there is one."""
    before = f"<code>{escape(label)}</code>" if label else ""
    return f'<div class="formula">{before}<math display="block">{inside}</math></div>'


WORTH = re.compile(r"[_^/=]|\w\(|\|")
"""What makes a formula of a text; a letter or number alone stays as it is."""
CUT = re.compile(r"\s*[-+*/=] |['(^_]")
"""What follows a formula that goes on in words, and so stays as it is."""
START = re.compile(r"(?<![\w`.\-/~(])(?=[A-Za-z|(\-\d])")
CODE = re.compile(r"(``.+?``|`[^`]+`|\"[^\"]*\"|[\w-]+\.[\w./-]+)", re.DOTALL)


def marked(text: str) -> str:
    """A paragraph of Markdown with its formulas as MathML; code, quotations and addresses stay."""
    pieces = CODE.split(text)
    return "".join(piece if number % 2 else _marked(piece) for number, piece in enumerate(pieces))


def _marked(text: str) -> str:
    done, parts = 0, []
    for start in START.finditer(text):
        at = start.start()
        if at < done or re.match(r"a [A-Za-z]", text[at:]):
            continue
        try:
            inside, length = leading(text[at:], tall=False)
        except NoFormula:
            continue
        if WORTH.search(text[at : at + length]) and not CUT.match(text[at + length :]):
            parts += [text[done:at], f'<span class="in-text"><math>{inside}</math></span>']
            done = at + length
    return "".join([*parts, text[done:]])
