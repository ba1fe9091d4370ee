"""Take the pictures of README and the documentation: ``make screenshots``, or ``python docs/screenshots.py``.

Sample photos of scikit-image and scikit-learn are scored from five class names, with the bundled model. The
report is photographed in Chromium, light and dark; `lsn score` runs in a terminal and becomes an SVG.
`lsn select` draws its comparison on bundled features.
"""

import fcntl
import os
import pty
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
from importlib.resources import as_file, files
from importlib.util import find_spec
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

IMAGES = Path(__file__).with_name("images")
COLUMNS, WIDTH = 80, 1200
CLASSES = {
    "cat": "skimage/data/chelsea.png",
    "espresso": "skimage/data/coffee.png",
    "motorcycle": "skimage/data/motorcycle_right.png",
    "rocket": "skimage/data/rocket.jpg",
    "flower": "sklearn/datasets/images/flower.jpg",
}
"""What belongs: a photo of each class."""
FOREIGN = (
    *(f"skimage/data/{name}.png" for name in ("astronaut", "brick", "camera", "coins", "grass", "moon")),
    *("skimage/data/hubble_deep_field.jpg", "skimage/data/retina.jpg", "sklearn/datasets/images/china.jpg"),
)
BROWSER = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]

THEME = TerminalTheme(
    background=(13, 17, 23),
    foreground=(230, 237, 243),
    normal=[
        *((72, 79, 88), (255, 123, 114), (63, 185, 80), (210, 153, 34)),
        *((88, 166, 255), (188, 140, 255), (57, 197, 207), (177, 186, 196)),
    ],
)
SVG = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{
  font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: {char_height}px;
  line-height: {line_height}px;
}}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect width="{terminal_width}" height="{terminal_height}"/>
</clipPath>
{lines}
</defs>
<rect width="{width}" height="{height}" rx="10" fill="#0d1117"/>
<g fill="#484f58">
<circle cx="22" cy="22" r="7"/><circle cx="44" cy="22" r="7"/><circle cx="66" cy="22" r="7"/>
</g>
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""
"""Rich's own form has a bar with a title, and a font that it loads from elsewhere."""


def chromium() -> str | None:
    """The browser, or None where there is none."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def sample(name: str) -> Image.Image:
    """A sample photo of an installed package."""
    package, _, file = name.partition("/")
    found = find_spec(package)
    if found is None or found.origin is None:
        raise SystemExit("The photos are in scikit-image and scikit-learn: pip install 'lsncli[demo]'")
    return Image.open(Path(found.origin).parent / file).convert("RGB")


def crop(photo: Image.Image, number: int, least: float) -> Image.Image:
    """A crop of ``least`` to all of a photo's sides; every second one is mirrored."""
    size = [int(side * (least + (1 - least) * (number % 5) / 4)) for side in photo.size]
    left, top = ((photo.size[i] - size[i]) * (number // (1 + 2 * i) % 3) // 2 for i in range(2))
    part = photo.crop((left, top, left + size[0], top + size[1]))
    return part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if number % 2 else part


def photos(folder: Path) -> None:
    """Write ``images``, of which some belong, and ``good-images``, which all belong."""
    for name in ("images", "good-images"):
        (folder / name).mkdir()
    for word, name in CLASSES.items():
        photo = sample(name)
        for number in range(12):
            crop(photo, number, 0.7).save(folder / "good-images" / f"{word}-{number}.jpg", quality=90)
        for number in (1, 2):
            crop(photo, 7 * number, 0.8).save(folder / "images" / f"{word}-{number}.jpg", quality=90)
    for name in FOREIGN:
        sample(name).save(folder / "images" / f"{Path(name).stem}.jpg", quality=90)


def run(folder: Path, *words: str) -> str:
    """Everything that an lsn command shows on a terminal, with its colours and without its progress bars."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, COLUMNS, 0, 0))
    hidden = ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "CI")
    env = {name: value for name, value in os.environ.items() if name not in hidden}
    process = subprocess.Popen(
        [sys.executable, "-m", "lsncli", *words],
        cwd=folder,
        env=env | {"TERM": "xterm-256color"},
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = bytearray()
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # how Linux says that the other end is closed
            break
        if not part:
            break
        shown += part
    os.close(ours)
    text = shown.decode("utf-8").replace("\r\n", "\n")
    if process.wait():
        raise SystemExit(f"lsn {' '.join(words)}:\n{text}")
    return text.rpartition("\x1b[2K")[2].replace("\x1b[?25h", "")


def terminal(command: str, shown: str, path: Path) -> None:
    """Draw what a command shows as an SVG."""
    with open(os.devnull, "w") as nowhere:
        console = Console(record=True, width=COLUMNS, file=nowhere, force_terminal=True, highlight=False)
        console.print(Text.assemble(("$ ", "bright_black"), (command, "bold")))
        console.print(Text.from_ansi(shown.rstrip("\n")))
    svg = console.export_svg(theme=THEME, code_format=SVG, unique_id="lsn")
    path.write_text(svg, encoding="utf-8")


def photograph(page: Path, output: Path) -> None:
    """The top of the report, to the end of the second row of images, in at most 256 colours."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path=chromium(), args=BROWSER)
        for scheme in ("light", "dark"):
            tab = browser.new_page(viewport={"width": WIDTH, "height": 900}, color_scheme=scheme)
            tab.goto(page.as_uri())
            tab.wait_for_function("[...document.images].every(image => image.complete)")
            ends = tab.eval_on_selector_all(
                "img", "all => all.map(one => one.getBoundingClientRect().bottom)"
            )
            rows = sorted({round(end) for end in ends if end > 0})
            below = rows[1] + 60  # the class and the score are below the image
            path = output / f"report-{scheme}.png"
            tab.screenshot(path=path, full_page=True, clip={"x": 0, "y": 0, "width": WIDTH, "height": below})
            Image.open(path).convert("RGB").quantize(256).save(path, optimize=True)
        browser.close()


def selection(folder: Path, output: Path) -> None:
    """The comparison of methods on the bundled features of Imagenette, in at most 32 colours."""
    (folder / "mini").mkdir()
    with as_file(files("lsncli.reference") / "mini_features.h5") as store:
        shutil.copy(store, folder / "mini" / "features.h5")
    path = output / "select.png"
    run(
        folder,
        "select",
        "--work",
        "mini",
        "--split",
        "imagenette-train",
        "--dry-run",
        "--plot",
        str(path.resolve()),
    )
    path.with_suffix(".csv").unlink()
    Image.open(path).convert("RGB").quantize(32).save(path, optimize=True)


def main(output: Path = IMAGES) -> None:
    """Write report-light.png, report-dark.png, score.svg and select.png."""
    output.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photos(folder)
        run(folder, "calibrate", "good-images", "--classes", ",".join(CLASSES), "--model", "mini")
        shown = run(folder, "score", "images")
        terminal("lsn score images", shown, output / "score.svg")
        run(folder, "report", "images")
        photograph(folder / "lsn-report.html", output)
        selection(folder, output)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
