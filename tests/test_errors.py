"""Messages are for people: what was copied into them from a file is cut."""

import pytest

from lsncli.errors import (
    LONGEST,
    LsnError,
    UsageError,
    did_you_mean,
    edit_distance,
    expected_one_of,
    shortened,
    similar,
)


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


@pytest.mark.parametrize(
    ("first", "second", "distance"),
    [
        ("", "", 0),
        ("a", "", 1),
        ("onyl", "only", 1),
        ("scroe", "score", 1),
        ("kitten", "sitting", 3),
        ("ab", "ba", 1),
    ],
)
def test_edit_distance_counts_a_swap_of_neighbours_once(first: str, second: str, distance: int) -> None:
    assert edit_distance(first, second) == edit_distance(second, first) == distance


def test_similar_names_come_nearest_first_and_others_not_at_all() -> None:
    known = ["--sort", "--output", "--format", "--for", "--from"]
    assert similar("--forma", known) == ["--format"]
    assert similar("--fro", known) == ["--for", "--from"]
    assert similar("--wings", known) == []
    assert did_you_mean("--fro", known) == "Did you mean '--for' or '--from'?"
    assert did_you_mean("--wings", known) == ""
    assert (
        expected_one_of("enrgy", ["knn", "energy"]) == "Did you mean 'energy'? Expected one of knn, energy."
    )
    assert expected_one_of("x", ["knn", "energy"]) == "Expected one of knn, energy."


def test_a_very_long_name_is_compared_in_no_time() -> None:
    assert similar("x" * 10_000_000, ["score"]) == []
