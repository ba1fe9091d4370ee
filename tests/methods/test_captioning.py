"""Captions of a whole split: resumed after any interruption, and only of the same images and settings."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lsncli.backbones.captioner import Caption
from lsncli.errors import LsnError
from lsncli.images.listing import list_images
from lsncli.methods.captioning import caption_split
from lsncli.methods.workspace import Workspace


class FakeCaptioner:
    """Names an image by its colour, and counts."""

    def __init__(self, top: int = 3) -> None:
        self.top, self.seen = top, 0
        self.fail_after: int | None = None
        self.coca = self

    @property
    def identity(self) -> dict[str, object]:
        return {"captioner": "fake", "top": self.top, "steps": 2}

    def preprocess(self, image: Image.Image) -> torch.Tensor:
        return torch.from_numpy(np.array(image, dtype=np.float32)).permute(2, 0, 1)

    def captions(self, pixels: torch.Tensor) -> list[Caption]:
        if self.fail_after is not None and self.seen >= self.fail_after:
            raise KeyboardInterrupt
        self.seen += len(pixels)
        return [Caption(f"red {int(one[0, 0, 0])}", (f"red{int(one[0, 0, 0])}", "sofa")) for one in pixels]


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "work")


@pytest.fixture
def items(tmp_path: Path):
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(7):
        Image.new("RGB", (4, 4), (number, 0, 0)).save(folder / f"{number}.png")
    return list_images([folder]).items


def run(work, items, captioner, **more) -> int:
    return caption_split(work, "test", items, captioner, batch_size=2, workers=1, **more)


def files(work: Workspace) -> list[str]:
    return sorted(path.name for path in work.candidates("test").parent.iterdir())


EXPECTED = "".join(
    f'{{"key": "{n}.png", "candidates": ["red{n}", "sofa"], "caption": "red {n}"}}\n' for n in range(7)
)


def test_every_image_is_a_line(work, items) -> None:
    ticks: list[int] = []
    assert run(work, items, FakeCaptioner(), progress=lambda step, note="": ticks.append(step)) == 0
    assert work.candidates("test").read_text() == EXPECTED
    assert files(work) == ["test.jsonl"]
    assert ticks == [0, 2, 2, 2, 1]


@pytest.mark.parametrize("cut", ["", '{"key": "4.png", "candi'])
def test_an_interrupted_run_goes_on_and_gives_the_same_file(work, items, cut: str) -> None:
    captioner = FakeCaptioner()
    captioner.fail_after = 4
    with pytest.raises(KeyboardInterrupt):
        run(work, items, captioner)
    assert files(work) == ["test.jsonl.unfinished"]
    with (work.candidates("test").parent / "test.jsonl.unfinished").open("a") as file:
        file.write(cut)
    captioner.fail_after = None
    assert run(work, items, captioner) == 4
    assert captioner.seen == 7
    assert work.candidates("test").read_text() == EXPECTED
    assert files(work) == ["test.jsonl"]


@pytest.mark.parametrize("change", ["settings", "images"])
def test_what_was_done_otherwise_does_not_count(work, items, change: str) -> None:
    captioner = FakeCaptioner()
    captioner.fail_after = 4
    with pytest.raises(KeyboardInterrupt):
        run(work, items, captioner)
    other = FakeCaptioner(top=4 if change == "settings" else 3)
    chosen = items if change == "settings" else items[1:]
    assert run(work, chosen, other) == 0
    assert other.seen == len(chosen)


def test_an_unreadable_image_is_named_and_nothing_done_is_lost(work, items) -> None:
    path = Path(items[5].path)
    whole, listed = path.read_bytes(), path.stat()
    path.write_bytes(whole[:30].ljust(len(whole), b"\0"))
    captioner = FakeCaptioner()
    with pytest.raises(LsnError, match=r"The image '5.png' cannot be read"):
        run(work, items, captioner)
    path.write_bytes(whole)
    os.utime(path, ns=(listed.st_atime_ns, listed.st_mtime_ns))  # or it has changed since it was listed
    assert run(work, items, captioner) == 4
    assert work.candidates("test").read_text() == EXPECTED


def test_a_folder_that_cannot_be_written_is_said(tmp_path, items) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LsnError, match="could not be written"):
        run(Workspace(tmp_path / "file"), items, FakeCaptioner())
