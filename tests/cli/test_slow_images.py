"""An image that takes too long is a failure with its reason, for every command; the run goes on."""

import json
from pathlib import Path

import pytest
from PIL import Image
from sklearn.datasets import load_sample_image
from slow_images import DECODER, SLEEPS, WATCHED, chunk, chunks

from lsncli import Detector
from lsncli.images import decode_process
from lsncli.images.budget import IMAGE_SECONDS

LATE = "takes more than 0.3 s to decode; --image-timeout allows more"
MANY = "too many parts: a PNG of 262,144 chunks or more"
MODEL = ("--model", "mini", "--device", "cpu")


@pytest.fixture(autouse=True)
def _decoders_that_sleep(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(decode_process, "RUN", DECODER + SLEEPS)
    monkeypatch.setenv(IMAGE_SECONDS, "0.3")
    decode_process.end_all()
    yield
    decode_process.end_all()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three sound photos of each of two classes, and two images that would take minutes."""
    for name, photo in (("flower", "flower.jpg"), ("temple", "china.jpg")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(3):
            crop = load_sample_image(photo)[20 * number : 20 * number + 120, :120]
            Image.fromarray(crop).save(tmp_path / "photos" / name / f"{number}.jpg")
    (tmp_path / "photos/flower/late.avif").write_bytes(WATCHED["AVIF"]())
    (tmp_path / "photos/temple/many.png").write_bytes(chunks(1 << 18, chunk(b"teSt")))
    return tmp_path / "photos"


def test_every_command_names_them_and_goes_on(lsn, photos: Path) -> None:
    done = lsn("extract", photos, *MODEL, "--max-failure-rate", "1", "--image-timeout", "0.3")
    assert done.code == 0, done.err
    lsn("calibrate", "--method", "mcm", "--device", "cpu")
    for words in (["score", photos], ["watch", photos, "--once", "--output", "rows.jsonl"]):
        options = ["--format", "jsonl", "--max-failure-rate", "1"] if words[0] == "score" else []
        done = lsn(*words, "--device", "cpu", *options)
        assert done.code == 0, done.err
        text = done.out if words[0] == "score" else Path("rows.jsonl").read_text()
        rows = [json.loads(line) for line in text.splitlines()]
        reasons = {Path(row["path"]).name: row["error"] for row in rows if row.get("error")}
        assert (len(rows), reasons) == (8, {"late.avif": LATE, "many.png": MANY})
    done = lsn("explain", photos / "flower/late.avif", "--device", "cpu")
    assert (done.code, LATE in " ".join(done.err.split())) == (1, True), done.err
    detector = Detector.load("lsn-work", device="cpu")
    found = detector.score([photos / "flower/late.avif", photos / "flower/0.jpg"])
    assert [one.error for one in found] == [LATE, None]
