"""Images inside an uncompressed tar, found by offset and size: threads read them without a lock."""

import posixpath
import tarfile
from pathlib import Path

from lsncli.console import printable
from lsncli.errors import UsageError
from lsncli.images.found import Found, Source, by_folder, is_hidden, is_image
from lsncli.types import Failure

Place = tuple[int, int]  # offset and size of a member's bytes


def scan(path: Path) -> Source:
    """Index a tar. Its single top-level folder, if it has just one, is not part of the keys.

    Links inside the tar are followed to the member they name; a tar that ends too early gives what lies
    before the cut, and a problem. Raises UsageError if it is compressed or no tar.
    """
    places: dict[str, Place] = {}
    links: dict[str, str] = {}
    problems: list[Failure] = []
    ignored = 0
    try:
        with tarfile.open(path, "r:", encoding="utf-8", errors="surrogateescape") as tar:
            try:
                while (member := tar.next()) is not None:
                    # tarfile remembers every member; a million of them would be a gigabyte.
                    tar.members.clear()  # type: ignore[attr-defined]
                    name = posixpath.normpath(member.name).lstrip("/")
                    if member.isdir():
                        continue
                    if any(is_hidden(part) for part in name.split("/")) or not is_image(name):
                        ignored += 1
                    elif member.islnk():
                        links[name] = posixpath.normpath(member.linkname).lstrip("/")
                    elif member.issym():
                        links[name] = posixpath.normpath(
                            posixpath.join(posixpath.dirname(name), member.linkname)
                        )
                    elif not member.isreg() or member.issparse():
                        problems.append(Failure(name, "not a plain file inside the tar"))
                    else:
                        places[name] = (member.offset_data, member.size)
            except (tarfile.TarError, OSError) as error:
                problems.append(
                    Failure(path.name, f"the tar is cut short or damaged: {printable(str(error))}")
                )
    except (tarfile.TarError, OSError, EOFError) as error:
        raise UsageError(
            f"'{path}' cannot be read as an uncompressed tar: {error}.",
            "Unpack it (tar -xf) and give the folder, or pack it again without compression.",
        ) from error
    for name, target in links.items():
        place = _follow(target, places, links)
        if place is None:
            problems.append(Failure(name, "a link to nothing inside the tar"))
        else:
            places[name] = place
    keys = _without_common_folder(list(places))
    folders = by_folder(keys)
    return Source(
        tuple(
            Found(key, folder, str(path), *place)
            for key, folder, place in zip(keys, folders, places.values(), strict=True)
        ),
        tuple(problems),
        ignored,
    )


def _follow(name: str, places: dict[str, Place], links: dict[str, str]) -> Place | None:
    for _ in range(40):  # as many links as Linux follows before it calls it a loop
        if name in places:
            return places[name]
        if name not in links:
            return None
        name = links[name]
    return None


def _without_common_folder(names: list[str]) -> list[str]:
    tops = {name.partition("/")[0] if "/" in name else None for name in names}
    if len(tops) != 1 or None in tops:
        return names
    return [name.partition("/")[2] for name in names]
