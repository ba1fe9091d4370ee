"""Files to sort into folders, and what a folder holds afterwards."""

from pathlib import Path

from lsncli.detection.sorting import Action, Filing, Outcome, carry_out
from lsncli.detection.undo_log import begin
from lsncli.images.file_identity import with_digests
from lsncli.images.item import ImageItem
from lsncli.images.listing import list_images
from lsncli.images.read import read_bytes


def photos(folder: Path) -> Path:
    """a/0.jpg and b/0.jpg (the same name), and one whose name no terminal should obey."""
    for name in ("a/0.jpg", "b/0.jpg", "b/two\nlines.jpg"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"bytes of {name}")
    return folder


def items(*paths: Path) -> tuple[ImageItem, ...]:
    """Images that were read, as scoring does."""
    found = with_digests(list_images(list(paths))).items
    for item in found:
        read_bytes(item)
    return found


def filed(filing: Filing) -> tuple[Outcome, Path]:
    """Carry a plan out; how it went, and the undo file."""
    with begin(filing.folder) as log:
        return carry_out(filing, log), log.path


def planned(action: Action, folder: Path, found: tuple[ImageItem, ...]) -> Filing:
    """All images as class "cat" but the last, which is OOD."""
    filing = Filing(action, folder, ("cat", "dog"))
    for item in found:
        filing.place(item, "cat", item is found[-1])
    return filing


def tree(folder: Path) -> dict[str, str]:
    """What each file below ``folder`` holds; for a link, where it leads. No undo files."""
    return {
        path.relative_to(folder).as_posix(): f"-> {path.readlink()}"
        if path.is_symlink()
        else path.read_text()
        for path in sorted(folder.rglob("*"))
        if (path.is_file() or path.is_symlink()) and not path.name.startswith("lsn-undo")
    }
