"""Candidate labels of a split from a caption decoder; an interrupted run goes on where it was."""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from hashlib import sha256
from pathlib import Path

from torch import Tensor

from lsncli.backbones.captioner import Captioner
from lsncli.console import ProgressCallback, silent
from lsncli.errors import LsnError
from lsncli.images.decode import decode
from lsncli.images.item import ImageItem
from lsncli.images.loader import load_batches
from lsncli.methods.candidates import candidate_line, write_lines
from lsncli.methods.workspace import Workspace


def caption_split(
    work: Workspace,
    name: str,
    items: Sequence[ImageItem],
    captioner: Captioner,
    *,
    batch_size: int,
    workers: int,
    progress: ProgressCallback = silent,
) -> int:
    """Write the candidates of ``items``, the images of split ``name``; returns how many were found done.

    What is done lies in ``<split>.jsonl.unfinished`` and counts if it is of the same images, captioner and
    settings. ``progress`` counts images. Raises LsnError if an image cannot be read, or a file not be
    written.
    """
    path = work.candidates(name)
    unfinished = path.with_name(f"{path.name}.unfinished")
    images = "".join(f"{item.key}\0{item.size}\0" for item in items).encode("utf-8", "surrogateescape")
    header = json.dumps(captioner.identity | {"images": sha256(images).hexdigest()}, sort_keys=True)
    try:
        done = _resume(unfinished, header, len(items))
        progress(done)
        with unfinished.open("a", encoding="ascii", newline="\n") as file:
            for lines in _captioned(items[done:], captioner, batch_size, workers):
                file.writelines(f"{text}\n" for text in lines)
                file.flush()
                os.fsync(file.fileno())
                progress(len(lines))
        write_lines(path, _complete_lines(unfinished)[1:])
        unfinished.unlink()
    except OSError as error:
        raise LsnError(f"{unfinished} could not be written: {error.strerror or error}.") from error
    return done


def _captioned(
    items: Sequence[ImageItem], captioner: Captioner, batch_size: int, workers: int
) -> Iterator[list[str]]:
    def see(data: bytes) -> Tensor:
        return captioner.coca.preprocess(decode(data))

    batches = load_batches(items, see, batch_size=batch_size, workers=workers)
    with closing(batches):
        for batch in batches:
            if batch.failures:
                first = batch.failures[0]
                raise LsnError(
                    f"The image '{first.key}' cannot be read: {first.reason}.",
                    "It was readable when its features were extracted; restore it and run the command again.",
                )
            found = captioner.captions(batch.pixels)
            yield [
                candidate_line(key, one.words, one.text) for key, one in zip(batch.keys, found, strict=True)
            ]


def _resume(unfinished: Path, header: str, images: int) -> int:
    """Images that are done: none, with a new file, unless the one there has this header."""
    lines = _complete_lines(unfinished) if unfinished.is_file() else []
    kept = lines if lines[:1] == [header] and len(lines) <= images + 1 else [header]
    write_lines(unfinished, kept)  # less a last line that was cut off
    return len(kept) - 1


def _complete_lines(path: Path) -> list[str]:
    return path.read_text(encoding="ascii", errors="replace").split("\n")[:-1]
