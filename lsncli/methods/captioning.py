"""Propose candidate labels of a split with a caption decoder; an interrupted run resumes."""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from hashlib import sha256
from itertools import chain
from pathlib import Path

from torch import Tensor

from lsncli.backbones.captioner import Captioner
from lsncli.console import ProgressCallback, silent
from lsncli.errors import LsnError
from lsncli.images.decode import decode
from lsncli.images.item import ImageItem
from lsncli.images.loader import load_batches
from lsncli.memory import InParts, memory_errors
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
    """Write the candidates of ``items``, the images of split ``name``; return how many were resumed.

    Unfinished results are in ``<split>.jsonl.unfinished``; they are used if images, captioner and settings
    are the same. ``progress`` counts images. Raises LsnError if an image cannot be read or a file cannot be
    written.
    """
    path = work.candidates(name)
    unfinished = path.with_name(f"{path.name}.unfinished")
    images = "".join(f"{item.key}\0{item.size}\0" for item in items).encode("utf-8", "surrogateescape")
    header = json.dumps(captioner.identity | {"images": sha256(images).hexdigest()}, sort_keys=True)
    try:
        resumed = _resume(unfinished, header, len(items))
        progress(resumed)
        with unfinished.open("a", encoding="ascii", newline="\n") as file:
            for lines in _captioned(items[resumed:], captioner, batch_size, workers):
                file.writelines(f"{text}\n" for text in lines)
                file.flush()
                os.fsync(file.fileno())
                progress(len(lines))
        write_lines(path, _complete_lines(unfinished)[1:])
        unfinished.unlink()
    except OSError as error:
        raise LsnError(f"{unfinished} could not be written: {error.strerror or error}.") from error
    return resumed


def _captioned(
    items: Sequence[ImageItem], captioner: Captioner, batch_size: int, workers: int
) -> Iterator[list[str]]:
    def preprocess(data: bytes) -> Tensor:
        return captioner.coca.preprocess(decode(data))

    caption = InParts(captioner.captions, join=lambda parts: list(chain.from_iterable(parts)))
    batches = load_batches(items, preprocess, batch_size=batch_size, workers=workers)
    with closing(batches):
        for batch in batches:
            if batch.failures:
                first = batch.failures[0]
                raise LsnError(
                    f"The image '{first.key}' cannot be read: {first.reason}.",
                    "It was readable when its features were extracted; restore it and run the command again.",
                )
            with memory_errors("one caption at a time", "Use --device cpu."):
                captions = caption(batch.pixels)
            yield [
                candidate_line(key, caption.words, caption.text)
                for key, caption in zip(batch.keys, captions, strict=True)
            ]


def _resume(unfinished: Path, header: str, images: int) -> int:
    """Return the number of images in ``unfinished``; start the file anew if it has another header."""
    lines = _complete_lines(unfinished) if unfinished.is_file() else []
    valid = lines if lines[:1] == [header] and len(lines) <= images + 1 else [header]
    write_lines(unfinished, valid)  # without a truncated last line
    return len(valid) - 1


def _complete_lines(path: Path) -> list[str]:
    return path.read_text(encoding="ascii", errors="replace").split("\n")[:-1]
