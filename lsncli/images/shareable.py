"""Whether several processes can read one listing."""

from lsncli.images.source_kinds import contents
from lsncli.images.sources import Listing
from lsncli.images.unpacked import Unpacked


def shareable(listing: Listing) -> str:
    """Why other processes could not read the images of ``listing``, as a sentence; empty if they can.

    Their items can be written down then, and read wherever the same paths lead to the same files.
    """
    known = tuple(contents().values())
    for item in listing.items:
        if isinstance(item.content, Unpacked):
            return f"'{item.path}' is compressed: this process alone can read what it unpacked of it."
        if item.content is not None and not isinstance(item.content, known):
            kind = type(item.content).__name__
            return f"'{item.path}': this process alone can read its images; no row of SOURCES names {kind}."
        if item.path.startswith("memory://"):
            return f"'{item.path}' lies in the memory of this process."
    return ""
