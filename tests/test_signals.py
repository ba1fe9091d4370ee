"""Ctrl-C is held back while it could not be heard, and then it is."""

import signal
import sys
import threading
import time
from collections.abc import Callable

import h5py
import numpy as np
import pytest

from lsncli import signals
from lsncli.cli import app as program
from lsncli.signals import SOON, check, held_back, noticed
from lsncli.store import container


def ctrl_c() -> None:
    signal.raise_signal(signal.SIGINT)


def run(done: list[str], *steps: Callable[[], object]) -> None:
    """Takes the steps in a block that holds Ctrl-C back, and keeps their names."""
    with held_back():
        for step in steps:
            step()
            done.append(step.__name__)


def test_it_is_answered_when_the_block_is_left() -> None:
    done: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        run(done, ctrl_c, ctrl_c)
    assert len(done) == 2
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with held_back():  # it was answered once, and that was all
        pass


def test_of_blocks_in_one_another_the_outermost_counts() -> None:
    done: list[str] = []

    def inner() -> None:
        run(done, ctrl_c)

    with pytest.raises(KeyboardInterrupt):
        run(done, inner)
    assert done == ["ctrl_c", "inner"]


def test_a_long_block_can_be_left_early() -> None:
    done: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        run(done, check, ctrl_c, check)
    assert done == ["check", "ctrl_c"]
    check()  # it was answered


def test_a_handler_of_somebody_elses_is_called_and_stays() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        with held_back():
            signal.raise_signal(signal.SIGTERM)
            assert not heard
        assert heard == [signal.SIGTERM]
        signal.raise_signal(signal.SIGTERM)
        assert len(heard) == 2
    finally:
        signal.signal(signal.SIGTERM, before)


def test_what_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with held_back():
            ctrl_c()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_may_use_it() -> None:
    done: list[str] = []

    def work() -> None:
        with held_back():
            check()
            done.append("in a thread")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done


def test_a_write_of_hdf5_is_never_cut_by_it(tmp_path, monkeypatch) -> None:
    """Within HDF5's calls to write it was a SystemError, or forgotten and the write with it."""
    original = container._FileWriter.write

    def struck(self: container._FileWriter, data: memoryview) -> int:
        ctrl_c()
        return original(self, data)

    monkeypatch.setattr(container._FileWriter, "write", struck)
    path = tmp_path / "file.h5"
    values = np.arange(1000, dtype="<f4")
    with pytest.raises(KeyboardInterrupt), container.replacing(path) as file:
        file.create_dataset("values", data=values)
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["values"][()], values)


def test_what_came_is_noted_whatever_error_was_made_of_it() -> None:
    def library() -> None:
        try:
            ctrl_c()
        except BaseException:
            raise SystemError("a callback returned a result with an exception set") from None

    def inside() -> None:
        with noticed() as found:
            came.append(found)
            library()

    came: list[list[int]] = []
    with pytest.raises(SystemError):
        inside()
    assert came == [[signal.SIGINT]]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_one_that_is_lost_where_nothing_can_be_raised_comes_again() -> None:
    class Forgotten:
        def __del__(self) -> None:
            ctrl_c()

    def inside() -> None:
        with noticed() as found:
            came.append(found)
            Forgotten()
            for _ in range(3000):
                time.sleep(0.01)

    came: list[list[int]] = []
    with pytest.raises(KeyboardInterrupt):
        inside()
    assert came == [[signal.SIGINT] * 2]


def test_one_that_comes_again_too_early_comes_once_more(monkeypatch) -> None:
    delays: list[float] = []

    class Early(threading.Timer):
        def start(self) -> None:
            delays.append(self.interval)
            if len(delays) == 1:
                ctrl_c()
            super().start()

    class Forgotten:
        def __del__(self) -> None:
            ctrl_c()

    def inside() -> None:
        with noticed():
            Forgotten()
            for _ in range(3000):
                time.sleep(0.01)

    monkeypatch.setattr("lsncli.signals.threading.Timer", Early)
    with pytest.raises(KeyboardInterrupt):
        inside()
    assert delays == [SOON, 2 * SOON]


def test_other_errors_that_cannot_be_raised_are_told_as_ever(monkeypatch) -> None:
    class Broken:
        def __del__(self) -> None:
            raise ValueError("of somebody else")

    told: list[type[BaseException]] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda lost: told.append(lost.exc_type))
    with noticed() as came:
        Broken()
    assert (told, came) == ([ValueError], [])


def test_where_ctrl_c_is_ignored_it_is_not_noticed() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with noticed() as came:
            ctrl_c()
        assert not came
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("late", [KeyboardInterrupt, SystemError])
def test_the_program_ends_with_130_and_without_a_traceback(monkeypatch, capsys, late) -> None:
    def broken(**_: object) -> None:
        try:
            ctrl_c()
        except KeyboardInterrupt:
            raise late("from a library") from None

    monkeypatch.setattr(program, "app", broken)
    with pytest.raises(SystemExit) as stop:
        program.main([])
    assert stop.value.code == 130
    assert capsys.readouterr().err == "Interrupted. Run the same command again.\n"


@pytest.mark.parametrize("late", [KeyboardInterrupt, SystemError, SystemExit])
def test_sigterm_ends_the_program_with_143_and_a_sentence(monkeypatch, capsys, late) -> None:
    def broken(**_: object) -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt:
            raise late(130) from None  # 130: what typer makes of it

    monkeypatch.setattr(program, "app", broken)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    with pytest.raises(SystemExit) as stop:
        program.main([])
    assert stop.value.code == 143
    assert capsys.readouterr().err == "Terminated. Run the same command again.\n"
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_where_sigterm_is_ignored_it_stays_so() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with signals.terminable():
            signal.raise_signal(signal.SIGTERM)
        assert not signals.terminated()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)
