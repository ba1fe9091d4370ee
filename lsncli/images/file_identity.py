"""What an image was when it was read, so that a verdict is acted on only while it is the same image."""

import os
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import NamedTuple

from lsncli.images.item import ImageItem, Listing
from lsncli.images.read import Undecodable, read_bytes, read_file

CHANGED = "changed since it was scored"


class FileIdentity(NamedTuple):
    """Which file it is, and in which state. Nobody can set ``ctime_ns`` by hand."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> "FileIdentity":
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)

    def is_same(self, status: os.stat_result) -> bool:
        """Whether it is the same file with the same content; its name, links and permissions may differ."""
        return self[:4] == FileIdentity.of(status)[:4]


@dataclass(slots=True, eq=False)
class ImageDigest:
    """The content of one image, which remembers what was read: ``digest`` (sha256 of the encoded bytes, "" if
    it was not read) and the ``identity`` of a file of its own."""

    item: ImageItem
    digest: str = ""
    identity: FileIdentity | None = None

    @property
    def size(self) -> int | None:
        """As ``Content``."""
        return self.item.size if self.item.content is None else self.item.content.size

    def read(self, offset: int, size: int | None) -> bytes:
        """The encoded bytes of the image, which are remembered. Raises as ``Content`` does."""
        if self.item.content is None:
            data, status = read_file(self.item.path, self.item.size, self.item.mtime)
            self.identity = FileIdentity.of(status)
        else:
            data = self.item.content.read(offset, size)
        self.digest = sha256(data).hexdigest()
        return data

    def read_again(self) -> bytes:
        """The bytes that were remembered. Raises Undecodable if they are others by now, and OSError."""
        data = read_bytes(replace(self.item, size=None, mtime=None) if self.is_file else self.item)
        if sha256(data).hexdigest() != self.digest:
            raise Undecodable(CHANGED)
        return data

    @property
    def is_file(self) -> bool:
        """Whether the image is a file of its own, which can be moved and linked."""
        return self.item.content is None


def with_digests(listing: Listing) -> Listing:
    """The same listing, whose images remember what this process reads of them."""
    return replace(listing, items=tuple(replace(item, content=ImageDigest(item)) for item in listing.items))


def digest_of(item: ImageItem) -> ImageDigest:
    """What is known of an image of a ``witnessed`` listing. Raises Undecodable if it was never read."""
    if isinstance(item.content, ImageDigest) and item.content.digest:
        return item.content
    raise Undecodable("was not read when it was scored")
