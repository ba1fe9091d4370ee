"""Tables for people at any width: texts wrap, numbers never do, and nothing is cut.

A table that is too wide is folded into blocks of columns, and one that cannot be folded has a line per field.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TextIO

from rich.cells import cell_len, chop_cells
from rich.console import Console
from rich.text import Text

from lsncli.console import Terminal, err, out, printable
from lsncli.report.formats import Column, Row, columns_with_values, width

GAP = 2
"""Characters between two columns."""
FOLD = 16
"""Words longer than this are folded in wide columns, such as those of paths, before the table is."""
TIGHT = 8
"""Words longer than this are folded if even the blocks of a folded table are too wide otherwise."""


@dataclass(frozen=True)
class TextColumn:
    """A column as text.

    Where ``least`` leaves too little room, the table is folded into blocks; where ``tightest`` does, it has a
    line per field. Cells of a column with ``right`` are never wrapped.
    """

    title: Text
    cells: Sequence[Text]
    least: int
    tightest: int
    right: bool = False
    identifies: bool = False
    """Repeated in each block."""

    @property
    def natural(self) -> int:
        """The width at which nothing wraps."""
        return max(width_of(text.plain.split("\n")) for text in (self.title, *self.cells))


Widths = list[tuple[TextColumn, int]]
"""The columns of a block with their widths."""


def write_table(rows: Iterable[Row], columns: Sequence[Column], file: TextIO, title: str) -> None:
    """Write a table that fits the terminal, or ``width()`` for a file or a pipe."""
    rows = list(rows)
    columns = columns_with_values(rows, columns)
    if not columns:
        return
    console = console_for(file)
    if title:
        console.print(Text(printable(title), style="italic"), soft_wrap=False)
        console.print()
    print_columns(console, [text_column(column, rows) for column in columns])


def show_aside(rows: Iterable[Row], columns: Sequence[Column]) -> None:
    """Write a table to stderr, beside the data on stdout."""
    write_table(rows, columns, err.file, "")  # type: ignore[arg-type]


def console_for(file: TextIO) -> Console:
    """Return the console of a terminal, or one of the width of files and pipes."""
    live = next((console for console in (out, err) if file is console.file and console.is_terminal), None)
    return live or Terminal(file=file, width=width())


def text_column(column: Column, rows: Sequence[Row]) -> TextColumn:
    """Lay out a column: what each row shows, and how narrow it may become."""
    title = Text(printable(column.title))
    values = [row.get(column.key) for row in rows]
    cells = [Text(column.shown(value), style=column.style_of(value)) for value in values]
    plain = [cell.plain for cell in cells]
    words = width_of(title.plain.split())
    if column.digits is not None:
        least = tightest = max(words, width_of(plain))
    else:
        longest = width_of(word for text in plain for word in text.split())
        least = max(words, min(longest, FOLD) if column.wide else longest)
        tightest = max(words, min(longest, TIGHT))
    return TextColumn(title, cells, least, tightest, column.digits is not None, column.identifies)


def width_of(texts: Iterable[str]) -> int:
    """Return the number of characters of the widest text on a terminal."""
    return max(map(cell_len, texts), default=0)


def print_columns(console: Console, columns: Sequence[TextColumn], sections: Collection[int] = ()) -> None:
    """Print a table in as many blocks as its width needs; ``sections`` are the rows with a gap after them."""
    blocks = fold(columns, console.width)
    for number, block in enumerate(blocks):
        if number:
            console.print()
        console.print(_block(block, sections), end="", soft_wrap=True)
    if not blocks:
        for line in _records(columns):
            console.print(line, soft_wrap=False)


def fold(columns: Sequence[TextColumn], room: int) -> list[Widths]:
    """Return the columns in blocks of at most ``room`` characters; none if a block would be too wide.

    Each block begins with the identifying columns, or the first if there is none. Texts are wrapped at words
    before the table is folded, and words are folded after.
    """
    for least in ("least", "tightest"):
        smallest = {id(column): getattr(column, least) for column in columns}
        blocks = _pack(columns, smallest, room)
        if all(_total(smallest[id(column)] for column in block) <= room for block in blocks):
            return [_widths(block, smallest, room) for block in blocks]
    return []


def _pack(columns: Sequence[TextColumn], smallest: Mapping[int, int], room: int) -> list[list[TextColumn]]:
    if _total(smallest.values()) <= room:
        return [list(columns)]
    leading = [column for column in columns if column.identifies] or list(columns[:1])
    others = [column for column in columns if not any(column is one for one in leading)]
    blocks: list[list[TextColumn]] = []
    for column in others:
        if not blocks or _total(smallest[id(one)] for one in (*blocks[-1], column)) > room:
            blocks.append(list(leading))
        blocks[-1].append(column)
    return blocks or [leading]


def _widths(block: Sequence[TextColumn], smallest: Mapping[int, int], room: int) -> Widths:
    """Share the room: texts first, then titles of numbers; the widest columns give way."""
    widths = [smallest[id(column)] for column in block]
    natural = [column.natural for column in block]
    for right in (False, True):
        indices = [index for index, column in enumerate(block) if column.right == right]
        free = room - _total(widths)
        while free > 0:
            growing = [index for index in indices if widths[index] < natural[index]]
            if not growing:
                break
            widths[min(growing, key=lambda index: widths[index])] += 1
            free -= 1
    return list(zip(block, widths, strict=True))


def _total(widths: Iterable[int]) -> int:
    """Return the width of columns side by side."""
    listed = list(widths)
    return sum(listed) + GAP * (len(listed) - 1)


def _block(block: Widths, sections: Collection[int]) -> Text:
    """Return a block as text: rich's own tables take milliseconds a row."""
    text = Text()
    titles = [wrap_cell(column.title, size).split("\n") for column, size in block]
    height = max(map(len, titles))
    below = [[Text()] * (height - len(lines)) + list(lines) for lines in titles]
    for line in range(height):
        _add_line(text, block, [lines[line] for lines in below], "bold")
    rules = [Text("─" * (size + GAP - 1)) for _, size in block[:-1]] + [Text("─" * block[-1][1])]
    text.append_text(Text(" ").join(rules)).append("\n")
    for row, cells in enumerate(zip(*(column.cells for column, _ in block), strict=True)):
        wrapped = [wrap_cell(cell, size) for cell, (_, size) in zip(cells, block, strict=True)]
        if any("\n" in cell.plain for cell in wrapped):
            parts = [cell.split("\n") for cell in wrapped]
            for line in range(max(map(len, parts))):
                _add_line(text, block, [lines[line] if line < len(lines) else Text() for lines in parts])
        else:
            _add_line(text, block, wrapped)
        if row in sections and row + 1 < len(block[0][0].cells):
            text.append("\n")
    return text


def _add_line(text: Text, block: Widths, cells: Sequence[Text], style: str = "") -> None:
    """Add a line of a table; nothing follows its last character."""
    gap = 0
    for cell, (column, size) in zip(cells, block, strict=True):
        free = size - cell_len(cell.plain)
        before = free // 2 if cell.justify == "center" else free if column.right else 0
        if cell.plain:
            text.append(" " * (gap + before))
            text.append_text(cell) if not style else text.append(cell.plain, style)
            gap = free - before + GAP
        else:
            gap += size + GAP
    text.append("\n")


def wrap_cell(cell: Text, size: int) -> Text:
    """Wrap a text at words; a longer word, such as a path, after a / where that helps, else anywhere."""
    if width_of(cell.plain.split("\n")) <= size:
        return cell
    lines = [""]
    for number, word in enumerate(cell.plain.split(" ")):
        for at, piece in enumerate(_pieces(word, size)):
            longer = f"{lines[-1]}{' ' if number and not at else ''}{piece}"
            if cell_len(longer) <= size:
                lines[-1] = longer
            else:
                lines.append(piece)
    return Text("\n".join(lines), style=cell.style)


def _pieces(word: str, size: int) -> list[str]:
    """Return the parts of a word that may stand on lines of their own."""
    if cell_len(word) <= size:
        return [word]
    folders = re.findall("[^/]*/+|[^/]+", word)
    return [piece for part in folders for piece in chop_cells(part, size)]


def _records(columns: Sequence[TextColumn]) -> Iterator[Text]:
    """Yield a line for each field that has a value, and an empty line between two rows."""
    for index, cells in enumerate(zip(*(column.cells for column in columns), strict=True)):
        if index:
            yield Text()
        for column, cell in zip(columns, cells, strict=True):
            if cell:
                yield Text(" ".join(column.title.plain.split()) + ": ").append(cell)
