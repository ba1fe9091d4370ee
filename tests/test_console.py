"""Text that is safe to show, and progress that knows when to be silent."""

import io
import os
import re
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

from lsncli import console


@given(st.text())
def test_printable_text_has_no_character_that_a_terminal_would_obey(text: str) -> None:
    shown = console.printable(text)
    assert shown.isprintable()
    shown.encode("utf-8")
    assert console.printable(shown) == shown


@given(st.text(st.characters(exclude_categories=["C", "Z"])))
def test_ordinary_text_is_left_alone(text: str) -> None:
    assert console.printable(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb", "a\\nb"),
        ("\x1b[2J", "\\x1b[2J"),
        ("\udcff", "\\udcff"),
        ("\u202e", "\\u202e"),
        ("\u2028", "\\u2028"),
        ("naïve 日本 🦊", "naïve 日本 🦊"),
        ('it\'s "fine"', 'it\'s "fine"'),
        ("a\\b", "a\\b"),
    ],
)
def test_what_is_escaped_looks_like_a_python_string(text: str, shown: str) -> None:
    assert console.printable(text) == shown


def test_say_goes_to_stderr_takes_no_markup_and_can_be_quiet(capsys) -> None:
    console.say("[red]not red[/red] [/]", style="yellow")
    console.say("nothing", quiet=True)
    assert capsys.readouterr() == ("", "[red]not red[/red] [/]\n")


def test_long_lines_are_not_broken_in_a_file(capsys) -> None:
    console.say("word " * 100)
    assert capsys.readouterr().err.count("\n") == 1


def test_long_lines_wrap_at_words_on_a_terminal_and_paths_stay_whole(monkeypatch) -> None:
    screen = Console(file=io.StringIO(), force_terminal=True, width=30, soft_wrap=True, highlight=False)
    monkeypatch.setattr(console, "err", screen)
    path = "/a/path/that-is/longer-than/the-whole/terminal.jpg"
    console.say(f"  lsn score {path} says [more] than\nfits.", style="yellow")
    shown = Text.from_ansi(screen.file.getvalue()).plain  # type: ignore[attr-defined]
    assert shown.splitlines() == ["  lsn score", f"  {path}", "  says [more] than", "fits."]


@given(st.text(st.sampled_from("ab \n")), st.integers(1, 20))
def test_wrapped_text_has_the_same_words_and_lines(text: str, width: int) -> None:
    shown = console.wrapped(text, width)
    assert shown.split() == text.split()
    assert all(len(line) <= width or " " not in line.strip() for line in shown.split("\n"))
    assert shown.count("\n") >= text.count("\n")


@pytest.mark.parametrize("quiet", [False, True])
def test_progress_is_silent_when_quiet_or_not_on_a_terminal(capsys, quiet: bool) -> None:
    with console.progress_bar("work", 3, quiet=quiet) as progress:
        progress(1)
        progress(2, "a note")
    assert progress is console.silent
    assert capsys.readouterr() == ("", "")


def test_quiet_means_quiet_on_a_terminal_too(monkeypatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(console, "err", Console(file=screen, force_terminal=True, width=100))
    with console.progress_bar("work", 3, quiet=True) as progress:
        progress(3)
    assert screen.getvalue() == ""


def test_a_terminal_sees_label_count_and_note(monkeypatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(console, "err", Console(file=screen, force_terminal=True, width=120))
    with console.progress_bar("extracting [train]", 4, done=1) as progress:
        progress(2, "loss [0.5]")
    assert "extracting [train]" in screen.getvalue()
    assert "3/4" in screen.getvalue()
    assert "loss [0.5]" in screen.getvalue()


def test_progress_without_a_total_only_counts(monkeypatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(console, "err", Console(file=screen, force_terminal=True, width=120))
    with console.progress_bar("photos", None) as progress:
        progress(7)
    assert "7/?" in screen.getvalue()


def test_an_error_inside_progress_is_not_swallowed() -> None:
    with pytest.raises(ValueError, match="inside"), console.progress_bar("work", 3, quiet=True):
        raise ValueError("inside")


def test_only_what_lsn_says_reaches_the_terminal_while_a_library_is_kept_quiet(capfd) -> None:
    """Python's prints, and what a library in C++ writes to the descriptors themselves, from any thread."""

    def noise() -> None:
        print("a library", flush=True)  # noqa: T201
        sys.stderr.write("\x1b[33m(raylet)\x1b[0m")
        sys.stderr.flush()
        os.write(1, b"core")
        os.write(2, b"core")

    console.say("before")
    with console.only_ours():
        console.say("within")
        thread = threading.Thread(target=noise)
        thread.start()
        thread.join()
    console.say("after")
    os.write(1, b"data")
    assert capfd.readouterr() == ("data", "before\nwithin\nafter\n")


def test_what_a_library_is_kept_from_saying_can_be_said_again_after_an_error(capfd) -> None:
    with pytest.raises(ValueError, match="x"), console.only_ours():
        raise ValueError("x")
    os.write(2, b"again")
    console.say("!")
    assert capfd.readouterr().err == "again!\n"


def test_a_status_is_for_terminals_and_leaves_nothing(monkeypatch, capsys) -> None:
    with console.status("Loading [the] model ..."):
        pass
    assert capsys.readouterr() == ("", "")
    screen = io.StringIO()
    monkeypatch.setattr(console, "err", Console(file=screen, force_terminal=True, width=60))
    with console.status("Loading [the] model ...", quiet=True):
        pass
    assert screen.getvalue() == ""
    with console.status("Loading [the] model ..."):
        console.say("a remark")
    assert "Loading [the] model ..." in screen.getvalue()
    assert Text.from_ansi(screen.getvalue()).plain.splitlines().count("a remark") == 1
    assert screen.getvalue().endswith("\x1b[2K")  # the line is erased


class TestMovingRate:
    """Times are given, so that no clock is read."""

    def test_unknown_before_two_steps_and_without_time(self) -> None:
        rate = console.MovingRate()
        assert rate.seconds(10, 0) is None
        rate.add(5, 1.0)
        assert rate.seconds(10, 2.0) is None
        rate.add(5, 1.0)
        assert rate.seconds(10, 2.0) is None

    def test_what_an_earlier_run_did_does_not_count(self) -> None:
        rate = console.MovingRate()
        rate.add(5000, 0.0)
        rate.add(1, 2.0)
        assert rate.seconds(100, 2.0) == 200.0
        assert rate.seconds(100, 2.5) == 199.5
        assert rate.seconds(100, 500.0) == 0.0

    def test_it_follows_the_last_half_minute(self) -> None:
        rate = console.MovingRate()
        for second in range(100):
            rate.add(10, float(second))
        assert rate.seconds(100, 99.0) == pytest.approx(10)
        for second in range(100, 140):
            rate.add(1, float(second))
        assert rate.seconds(100, 139.0) == pytest.approx(100)

    def test_steps_longer_than_that_are_estimated_too(self) -> None:
        rate = console.MovingRate()
        for step in range(9):
            rate.add(1, 100.0 * step)
        assert rate.seconds(3, 800.0) == pytest.approx(300)
        assert rate.seconds(3, 850.0) == pytest.approx(250)


def test_a_bar_says_the_time_left_unless_notes_do(monkeypatch) -> None:
    now = [0.0]
    monkeypatch.setattr(console, "monotonic", lambda: now[0])
    for time_left in (True, False):
        screen = io.StringIO()
        monkeypatch.setattr(console, "err", Console(file=screen, force_terminal=True, width=120))
        with console.progress_bar("work", 10**6, time_left=time_left) as progress:
            for second in range(3):
                now[0] = second
                progress(1)
        assert (" days left" in screen.getvalue()) is time_left


@pytest.mark.parametrize("width", [50, 60, 80, 120])
def test_no_number_of_a_bar_is_cut_on_a_narrow_terminal(monkeypatch, width: int) -> None:
    now = [0.0]
    monkeypatch.setattr(console, "monotonic", lambda: now[0])
    screen = Console(file=io.StringIO(), force_terminal=True, width=width)
    monkeypatch.setattr(console, "err", screen)
    with console.progress_bar("negative prompts", 1700) as progress:
        for second in range(4):
            now[0] = second
            progress(300, "loss 10.387, rate 0.00099")
    shown = Text.from_ansi(screen.file.getvalue()).plain  # type: ignore[attr-defined]
    assert "1200/1700" in shown
    assert "2 s left" in shown
    assert ("loss 10.387, rate 0.00099" in shown) is (width >= 80)


def test_a_status_inside_a_bar_is_its_note_and_inside_a_status_it_is_not_shown(monkeypatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(console, "err", Console(file=screen, force_terminal=True, width=100))
    with console.progress_bar("scores", 4), console.status("Loading it ..."):
        pass
    assert re.search(r"scores .*0/4 .*Loading it \.\.\.", Text.from_ansi(screen.getvalue()).plain)
    with console.status("Outer ..."), console.status("Inner ..."):
        pass
    assert "Outer ..." in screen.getvalue()
    assert "Inner ..." not in screen.getvalue()
    with pytest.raises(ValueError, match="x"), console.status("Outer ..."):
        raise ValueError("x")
    with console.status("Again ..."):
        pass
    assert "Again ..." in screen.getvalue()
