"""Why weights do not load: the whole reason in a sentence, whatever torch says and the file holds."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lsncli.backbones.loading import cleaned, load_reason


def reason_of(call: Callable[[], object]) -> str:
    with pytest.raises(Exception) as caught:  # noqa: PT011 (whatever torch raises)
        call()
    reason = load_reason(caught.value)
    assert reason.isprintable(), reason
    assert "[1m" not in reason
    assert reason.rstrip(" .") == reason != ""
    return reason


class Named:
    pass


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("thing", "name"),
    [
        (np.float64(0.5), "numpy._core.multiarray.scalar"),
        (np.zeros(3), "numpy._core.multiarray"),
        (Named(), "Named"),
    ],
    ids=["numpy scalar", "numpy array", "object"],
)
def test_an_object_beside_the_tensors_is_named_and_so_is_the_way_out(
    tmp_path: Path, thing: object, name: str, zipped: bool
) -> None:
    path = tmp_path / "best.pt"
    torch.save(
        {"state_dict": {"w": torch.ones(2)}, "best": thing}, path, _use_new_zipfile_serialization=zipped
    )
    reason = reason_of(lambda: torch.load(path, weights_only=True))
    assert reason.startswith("besides tensors it holds an object of ")
    assert name in reason
    assert reason.endswith("torch.save(model.state_dict(), FILE)")
    assert "weights_only" not in reason  # nobody is told to run it


@pytest.mark.parametrize("data", [b"", b"hello world", b"\x80\x02}q\x00.", b"PK\x03\x04" + bytes(40)])
def test_what_is_no_checkpoint_has_a_reason(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "best.pt"
    path.write_bytes(data)
    assert len(reason_of(lambda: torch.load(path, weights_only=True))) > 8


def test_weights_of_another_model_are_counted() -> None:
    model = torch.nn.Linear(2, 3)
    state = {"weight": torch.ones(3, 5), "\x1b[31mred": torch.ones(1), "b": torch.ones(1)}
    assert reason_of(lambda: model.load_state_dict(state)) == (
        "1 weight is missing: 'bias'; 2 weights are unknown, such as '\\x1b[31mred'; "
        "1 weight has another shape (size mismatch): 'weight': expected [3, 2], found [3, 5]"
    )


@given(st.text())
def test_no_text_moves_a_terminal_or_breaks_a_line(text: str) -> None:
    found = cleaned(f"\x1b[1m{text}\x1b[0m")
    assert found.isprintable()
    assert len(found) <= 10 * 200


def test_escape_codes_are_removed_and_not_shown() -> None:
    assert cleaned("\x1b[1mdo those\n\tsteps\x1b[0m \x1b]0;title\x07now.") == "do those steps 0;title\\x07now"
