"""The state of an image when it was read, so that files are moved only if they have not changed since."""

import os
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import NamedTuple

from lsncli.images.item import ImageItem, Listing
from lsncli.images.read import Undecodable, read_bytes, read_file

CHANGED = "changed since it was scored"


class FileIdentity(NamedTuple):
    """A file and its state. ``ctime_ns`` cannot be set by a user."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> "FileIdentity":
        """Return the identity of a file from its status."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)

    def is_same(self, status: os.stat_result) -> bool:
        """Return whether file and content are the same; name, links and permissions may differ."""
        return self[:4] == FileIdentity.of(status)[:4]


@dataclass(slots=True, eq=False)
class ImageDigest:
    """The content of an image that records its state when it is read.

    ``digest`` is the sha256 of the encoded bytes ("" before it is read), ``identity`` that of the image file.
    """

    item: ImageItem
    digest: str = ""
    identity: FileIdentity | None = None

    @property
    def size(self) -> int | None:
        """The size as in ``Content``."""
        return self.item.size if self.item.content is None else self.item.content.size

    def read(self, offset: int, size: int | None) -> bytes:
        """Read the encoded bytes of the image, and record digest and identity. Raises as ``Content`` does."""
        if self.item.content is None:
            data, status = read_file(self.item.path, self.item.size, self.item.mtime)
            self.identity = FileIdentity.of(status)
        else:
            data = self.item.content.read(offset, size)
        self.digest = sha256(data).hexdigest()
        return data

    def read_again(self) -> bytes:
        """Read the same bytes again. Raises Undecodable if they have changed, and OSError."""
        data = read_bytes(replace(self.item, size=None, mtime=None) if self.is_file else self.item)
        if sha256(data).hexdigest() != self.digest:
            raise Undecodable(CHANGED)
        return data

    @property
    def is_file(self) -> bool:
        """Whether the image is a file of its own, which can be moved and linked, and not in an archive."""
        return self.item.content is None


def with_digests(listing: Listing) -> Listing:
    """Return the listing with images that record their digest when this process reads them."""
    return replace(listing, items=tuple(replace(item, content=ImageDigest(item)) for item in listing.items))


def digest_of(item: ImageItem) -> ImageDigest:
    """Return the digest of an image in a listing ``with_digests``. Raises Undecodable if it was not read."""
    if isinstance(item.content, ImageDigest) and item.content.digest:
        return item.content
    raise Undecodable("was not read when it was scored")
