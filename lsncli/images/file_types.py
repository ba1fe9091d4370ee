"""Recognise types of files by their first bytes: AVIF, HEIC, and files that are no image, for messages."""

KINDS = (
    (b"<!doctype html", "an HTML page"),
    (b"<html", "an HTML page"),
    (b"<svg", "an SVG drawing"),
    (b"<?xml", "XML"),
    (b"%pdf", "a PDF"),
    (b"pk\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "gzip data"),
    (b"version https://git-lfs", "a Git LFS pointer, its content was never fetched"),
    (b"{", "JSON"),
)

UNSUPPORTED = (
    (b"\xff\x0a", "a JPEG XL"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000"),
    (b"8BPS", "a Photoshop"),
)

SIGNATURES = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG", "PNG"),
    (b"GIF8", "GIF"),
    (b"RIFF", "WebP"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
)

AVIF = frozenset({b"avif", b"avis"})
HEIC = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})


def container_format(data: bytes) -> str:
    """Return ``"AVIF"`` or ``"HEIC"`` by the brands in the first box of a file, or "" for any other file."""
    if data[4:8] != b"ftyp":
        return ""
    end = min(int.from_bytes(data[:4], "big"), 256)
    brands = {data[8:12], *(data[at : at + 4] for at in range(16, end, 4))}
    if brands & AVIF:
        return "AVIF"
    return "HEIC" if brands & HEIC else ""


def describe_unreadable(data: bytes) -> str:
    """Return the reason why no decoder accepts these bytes, for users."""
    for start, kind in SIGNATURES:
        if data.startswith(start):
            return f"damaged: it begins like a {kind} image, but its header is broken or cut short"
    if kind := container_format(data):
        return f"damaged: it begins like an {kind} image, but cannot be read".replace("an HEIC", "a HEIC")
    for start, kind in UNSUPPORTED:
        if data.startswith(start):
            return f"{kind} image, which is not supported"
    head = data[:64].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for start, kind in KINDS:
        if head.startswith(start):
            return f"not an image but {kind}"
    if not any(data[:4096]):
        return "not an image: it is all zeros"
    return f"not an image (it starts with {data[:8].hex(' ')})"
