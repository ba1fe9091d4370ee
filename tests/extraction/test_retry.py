"""--retry-failed: only what failed is read again, and it goes where it belongs."""

from pathlib import Path

import pytest
from fake_backbone import FakeBackbone, make_images, png

from lsncli.errors import LsnError
from lsncli.extraction.extract import Extraction, extract
from lsncli.images.listing import list_images
from lsncli.store.reader import list_splits, read_split
from lsncli.store.verify import verify


def run(root: Path, **options: object) -> Extraction:
    settings = {"store": root / "f.h5", "split": "train", "backbone": FakeBackbone()}
    settings |= {"batch_size": 4, "workers": 2, "max_failure_rate": 1.0}
    path = root / "images"
    return extract(list_images([path]), source=str(path), **{**settings, **options})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make_images(tmp_path / "images", 20, broken=(0, 3, 9, 18, 19))
    run(tmp_path)
    return tmp_path


def test_repaired_images_take_their_place_and_nothing_else_is_encoded(root: Path) -> None:
    make_images(root / "images", 20)
    with pytest.raises(LsnError, match="of other images") as caught:
        run(root)
    assert "--retry-failed" in caught.value.hint
    backbone = FakeBackbone()
    ticks: list[int] = []
    done = run(root, backbone=backbone, retry_failed=True, progress=lambda step, note="": ticks.append(step))
    assert backbone.encoded == 5
    assert ticks == [15, 4, 1]
    assert (done.rows, done.resumed, done.failures, done.already) == (20, 15, (), False)
    run(root, store=root / "whole.h5")
    assert (root / "f.h5").read_bytes() == (root / "whole.h5").read_bytes()
    assert run(root).already
    assert sorted(path.name for path in root.iterdir()) == ["f.h5", "images", "whole.h5"]


def test_what_fails_again_is_recorded_again(root: Path) -> None:
    (root / "images/class_1/0003.png").write_bytes(png(1, 2, 3))
    (root / "images/class_1/0009.png").write_bytes(b"")
    done = run(root, retry_failed=True)
    assert done.rows == 16
    reasons = {failure.key: failure.reason for failure in done.failures}
    assert list(reasons) == ["class_0/0000.png", "class_0/0018.png", "class_1/0009.png", "class_1/0019.png"]
    assert reasons["class_1/0009.png"] == "an empty file"
    keys = read_split(root / "f.h5", "train").keys
    assert list(keys) == sorted(keys)
    assert verify(root / "f.h5") == []


def test_without_failures_nothing_happens(root: Path) -> None:
    make_images(root / "images", 20)
    run(root, retry_failed=True)
    before = (root / "f.h5").stat().st_mtime_ns
    backbone = FakeBackbone()
    assert run(root, backbone=backbone, retry_failed=True).rows == 20
    assert backbone.encoded == 0
    assert (root / "f.h5").stat().st_mtime_ns == before


def test_an_interrupted_retry_keeps_what_it_recovered(root: Path) -> None:
    make_images(root / "images", 20)

    class Stops(FakeBackbone):
        def encode(self, pixels):  # type: ignore[no-untyped-def]
            if self.encoded:
                raise KeyboardInterrupt
            return super().encode(pixels)

    with pytest.raises(KeyboardInterrupt):
        run(root, backbone=Stops(), retry_failed=True)
    info = list_splits(root / "f.h5")["train"]
    assert (info.rows, [failure.key for failure in info.failures]) == (19, ["class_1/0019.png"])
    assert run(root, retry_failed=True).rows == 20


def test_images_below_a_folder_that_could_not_be_read_count_as_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    make_images(tmp_path / "images", 4)
    (tmp_path / "images/class_0/more").mkdir()
    (tmp_path / "images/class_0/more/x.png").write_bytes(png(1, 2, 3))
    real = os.scandir
    with monkeypatch.context() as patch:

        def scandir(path: str):  # type: ignore[no-untyped-def]
            if str(path).endswith("more"):
                raise PermissionError(13, "Permission denied")
            return real(path)

        patch.setattr(os, "scandir", scandir)
        assert len(run(tmp_path).failures) == 1
    done = run(tmp_path, retry_failed=True)
    assert (done.rows, done.failures) == (5, ())


def test_a_retry_of_nothing_is_refused(tmp_path: Path) -> None:
    make_images(tmp_path / "images", 4)
    with pytest.raises(LsnError, match="no finished split 'train'"):
        run(tmp_path, retry_failed=True)


def test_other_changes_than_repairs_are_refused(root: Path) -> None:
    before = (root / "f.h5").read_bytes()
    make_images(root / "images", 21)
    with pytest.raises(LsnError, match=r"1 images are new \(class_0/0020.png\)"):
        run(root, retry_failed=True)
    (root / "images/class_0/0020.png").unlink()
    (root / "images/class_0/0002.png").unlink()
    with pytest.raises(LsnError, match="1 images are gone"):
        run(root, retry_failed=True)
    (root / "images/class_0/0002.png").write_bytes(png(1, 1, 1))
    (root / "images/class_00").mkdir()
    (root / "images/class_0/0000.png").rename(root / "images/class_00/0000.png")
    with pytest.raises(LsnError, match="images are"):
        run(root, retry_failed=True)
    assert (root / "f.h5").read_bytes() == before


def test_other_class_names_are_refused(root: Path) -> None:
    (root / "names.txt").write_text("cat\ndog\n")
    with pytest.raises(LsnError, match="class names have changed"):
        run(root, retry_failed=True, names_file=root / "names.txt")
