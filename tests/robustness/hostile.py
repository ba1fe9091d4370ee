"""Files made to harm whoever opens them: HDF5 and safetensors, for tests/robustness/faults.py and the tests.

Nothing here is large on disk: what is huge is only claimed. Each maker gets a path of its own; a store starts
as a sound one and is made hostile in place.
"""

import json
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

Harm = Callable[[h5py.File], object]
HUGE = 1 << 40
DEEP = "[" * 100_000
"""JSON that no parser of limited depth can read."""


def _swap(name: str, make: Callable[[h5py.Group, str], object]) -> Harm:
    """Put something else where a dataset of the train split was."""

    def harm(file: h5py.File) -> None:
        group = file["splits/train"]
        if name in group:
            del group[name]
        make(group, name)

    return harm


def _virtual(group: h5py.Group, name: str) -> None:
    layout = h5py.VirtualLayout((6, 4), "<f2")
    layout[:] = h5py.VirtualSource("elsewhere.h5", "x", (6, 4), dtype="<f2")
    group.create_virtual_dataset(name, layout)


def _references(group: h5py.Group, name: str) -> None:
    made = group.create_dataset(name, (6, 4), h5py.ref_dtype)
    made[0, 0] = group.ref


def _attribute(name: str, value: Any, of: str = "splits/train") -> Harm:
    return lambda file: file[of].attrs.__setitem__(name, value)


def _many_groups(file: h5py.File) -> None:
    here = file.create_group("deep")
    for _ in range(3000):
        here = here.create_group("d")


STORES: dict[str, Harm] = {
    "external link": _swap(
        "features", lambda g, n: g.__setitem__(n, h5py.ExternalLink("/etc/hostname", "/x"))
    ),
    "external link to itself": lambda f: f.__setitem__("x", h5py.ExternalLink(f.filename, "/x")),
    "soft link": _swap("features", lambda g, n: g.__setitem__(n, h5py.SoftLink("/splits/other/features"))),
    "soft link loop": _swap("labels", lambda g, n: g.__setitem__(n, h5py.SoftLink(f"/splits/train/{n}"))),
    "hard link loop": lambda f: f.__setitem__("splits/train/again", f["splits"]),
    "a split that is the root": lambda f: f.__setitem__("splits/circle", f["/"]),
    "groups 3,000 deep": _many_groups,
    "huge dimensions": _swap("features", lambda g, n: g.create_dataset(n, (HUGE, 4), "<f2")),
    "huge dimensions, chunked": _swap(
        "features", lambda g, n: g.create_dataset(n, (HUGE, 4), "<f2", chunks=(1, 4), compression="gzip")
    ),
    "huge texts": _swap("keys", lambda g, n: g.create_dataset(n, (HUGE,), "|u1")),
    "dimensions that overflow": _swap(
        "features", lambda g, n: g.create_dataset(n, (1 << 62, 1 << 62), "<f2", chunks=(1, 1))
    ),
    "compression bomb": _swap(
        "features",
        lambda g, n: g.create_dataset(n, (1 << 28, 4), "<f2", chunks=(1 << 20, 4), compression="gzip"),
    ),
    "external storage": _swap(
        "features", lambda g, n: g.create_dataset(n, (6, 4), "<f2", external=[("/etc/passwd", 0, 48)])
    ),
    "virtual dataset": _swap("features", _virtual),
    "object references": _swap("features", _references),
    "region references": _swap("features", lambda g, n: g.create_dataset(n, (6, 4), h5py.regionref_dtype)),
    "compound type": _swap("labels", lambda g, n: g.create_dataset(n, (6,), [("a", "<i4"), ("b", "<f8")])),
    "array type": _swap("labels", lambda g, n: g.create_dataset(n, (6,), np.dtype(("<i4", (1000,))))),
    "enum type": _swap("labels", lambda g, n: g.create_dataset(n, (6,), h5py.enum_dtype({"a": 1}, "<i4"))),
    "opaque type": _swap("features", lambda g, n: g.create_dataset(n, (6, 4), "V9")),
    "texts of variable length": _swap("keys", lambda g, n: g.create_dataset(n, (6,), h5py.string_dtype())),
    "big-endian features": _swap("features", lambda g, n: g.create_dataset(n, (6, 4), ">f2")),
    "an empty dataspace": _swap("labels", lambda g, n: g.create_dataset(n, data=h5py.Empty("<i4"))),
    "a group for a dataset": _swap("features", lambda g, n: g.create_group(n)),
    "a type for a dataset": _swap("features", lambda g, n: g.__setitem__(n, np.dtype("<f2"))),
    "a dataset for a split": lambda f: f["splits"].create_dataset("bad", data=[1]),
    "huge attribute": _attribute("source", np.zeros(60_000, np.uint8)),
    "attribute of variable length": _attribute("source", "of variable length"),
    "negative count": _attribute("rows_committed", np.int64(-1)),
    "count beyond every number": _attribute("rows_committed", np.uint64(2**64 - 1)),
    "fingerprint too deep": _attribute("fingerprint", np.bytes_(DEEP[:60_000].encode()), "/"),
    "fingerprint of infinity": _attribute("fingerprint", np.bytes_(b'{"mean": 1e999, "std": [NaN]}'), "/"),
    "version beyond every number": _attribute("format_version", np.uint64(2**64 - 1), "/"),
}
"""What to do to a sound store with a split ``train`` (6, 4) of two classes."""


def make_hostile(store: Path, harm: Harm) -> None:
    """Do ``harm`` to a sound store."""
    with h5py.File(store, "r+") as file:
        harm(file)


def _safetensors(header: Mapping[str, Any] | bytes, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def _one(dtype: str, shape: list[int], offsets: list[int]) -> dict[str, Any]:
    return {"a": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


def safetensors() -> dict[str, bytes]:
    """Hostile files by name."""
    eight = bytes(8)
    pair = {name: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} for name in "ab"}
    return {
        "empty": b"",
        "huge header": _safetensors(b"{}", length=1 << 60),
        "header beyond the file": _safetensors(b"{}", length=4096),
        "header of 99 MB": _safetensors(b"{}" + b" " * 99_000_000),
        "header of 101 MB": _safetensors(b"{}" + b" " * 101_000_000),
        "header too deep": _safetensors(DEEP.encode()),
        "header that is no JSON": _safetensors(b"\xff\xfe not json"),
        "overlapping offsets": _safetensors(pair, eight),
        "negative offsets": _safetensors(_one("F32", [2], [-8, 0]), eight),
        "offsets backwards": _safetensors(_one("F32", [2], [8, 0]), eight),
        "offsets beyond the file": _safetensors(_one("F32", [2], [0, 1 << 50]), eight),
        "a shape larger than its bytes": _safetensors(_one("F32", [1 << 40], [0, 8]), eight),
        "a shape that overflows": _safetensors(_one("F32", [1 << 62, 1 << 62], [0, 8]), eight),
        "a huge shape of nothing": _safetensors(_one("F32", [1 << 62, 1 << 62, 0], [0, 0])),
        "a negative shape": _safetensors(_one("F32", [-2], [0, 8]), eight),
        "a type that does not exist": _safetensors(_one("BOMB", [2], [0, 8]), eight),
        "a type that numpy lacks": _safetensors(_one("BF16", [4], [0, 8]), eight),
        "a type of 8 bits that numpy lacks": _safetensors(_one("F8_E4M3", [8], [0, 8]), eight),
        "metadata that is no text": _safetensors({"__metadata__": {"format": 7}}),
        "hole between arrays": _safetensors(_one("F32", [1], [4, 8]), eight),
        "bytes at the end": _safetensors(_one("F32", [1], [0, 4]), eight),
        "many axes": _safetensors(_one("F32", [1] * 100, [0, 4]), bytes(4)),
        "a pickle": b"\x80\x04\x95\x1d\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x8c\x06system\x93.",
    }


JUNK: tuple[Any, ...] = (None, True, -1, 1e308, "x", [], {}, ["x"], {"x": 1}, 2**70)
"""JSON values of which at most one fits a field."""
JUNK_TEXTS = ("NaN", "Infinity", "-Infinity", "1e999", DEEP, "", "{", '"\\ud800"')
"""JSON, or nearly, that json.dumps would not write."""
FILLINGS = {"of NaN": b"\xff", "of zeros": b"\0"}


def forged(data: bytes) -> dict[str, bytes]:
    """Artefacts by name, each with one field, or one array, that is not what it should be.

    Whoever made them could compute a checksum, too; without one a file counts as older than checksums.
    """
    header, arrays = _taken_apart(data)
    fields = header.pop("__metadata__")
    fields.pop("checksum", None)
    files = {}

    def add(name: str, field: str, text: str) -> None:
        files[name] = _safetensors({"__metadata__": {**fields, field: text}, **header}, arrays)

    for field, text in fields.items():
        for junk in JUNK:
            add(f"{field} {junk!r}", field, json.dumps(junk))
        for junk in JUNK_TEXTS:
            add(f"{field} {junk[:9]}", field, junk)
        for inside, change in _inside(text):
            add(f"{field} {inside}", field, change)
    for name, about in header.items():
        files |= _forged_array(name, about, {"__metadata__": fields, **header}, arrays)
    return files


def _taken_apart(data: bytes) -> tuple[dict[str, Any], bytes]:
    end = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:end]), data[end:]


def _inside(text: str) -> Iterator[tuple[str, str]]:
    """Changes of the values of an object in JSON, which may itself be a text of JSON."""
    found = json.loads(text) if text[:1] in '{["' else None
    if isinstance(found, str) and found.startswith("{"):
        yield from ((name, json.dumps(inner)) for name, inner in _inside(found))
    if isinstance(found, dict):
        for name in found:
            yield from ((f"{name} {junk!r}", json.dumps({**found, name: junk})) for junk in JUNK)
            yield f"without {name}", json.dumps({key: value for key, value in found.items() if key != name})


def _forged_array(
    name: str, about: Mapping[str, Any], header: Mapping[str, Any], data: bytes
) -> dict[str, bytes]:
    """The array ``name`` called otherwise, in another shape, all NaN and all zero."""
    first, last = about["data_offsets"]
    others = {key: value for key, value in header.items() if key != name}
    row = {**about, "shape": [1, int(np.prod(about["shape"]))]}
    filled = {what: data[:first] + byte * (last - first) + data[last:] for what, byte in FILLINGS.items()}
    return {
        f"without {name}": _safetensors({**others, "other": about}, data),
        f"{name} in one row": _safetensors({**others, name: row}, data),
        **{f"{name} {what}": _safetensors(header, content) for what, content in filled.items()},
    }
