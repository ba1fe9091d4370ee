"""Messages are for people: what was copied into them from a file is cut."""

from lsncli.errors import LONGEST, LsnError, UsageError, shortened


def test_a_message_is_as_it_is_unless_it_is_very_long() -> None:
    assert LsnError("a" * LONGEST).message == "a" * LONGEST
    error = UsageError("It begins: '" + "x" * 1_000_000 + "' is no name.", "Hint: " + "y" * 1_000_000)
    assert error.message.startswith("It begins: 'xxx")
    assert error.message.endswith("xxx' is no name.")
    assert " ... (998,025 characters) ... " in error.message
    assert len(str(error)) < 2 * LONGEST + 100


def test_what_is_left_out_is_counted() -> None:
    assert shortened("0123456789", 10) == "0123456789"
    assert shortened("0123456789ab", 9) == "012345 ... (3 characters) ... 9ab"
