"""Commands that read URLs: no credential is printed or stored, and --timeout reaches what fetches."""

import base64
import io
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.main import get_command

from lsncli.cli.app import app
from lsncli.images.budget import IMAGE_SECONDS, SECONDS, allowed_image_seconds, allowed_seconds
from lsncli.methods.workspace import Workspace
from lsncli.store.reader import read_split

pytest.importorskip("aiohttp")

USER = "Basic " + base64.b64encode(b"ann:S3CRET").decode()


class Private(BaseHTTPRequestHandler):
    """Images for those who know the password; ``broken`` ones are none."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        name = self.path.partition("?")[0]
        data = io.BytesIO()
        Image.fromarray(np.full((8, 8, 3), 40 * int(name[-5]), np.uint8)).save(data, "PNG")
        if self.headers.get("Authorization") != USER:
            self.send_error(401)
            return
        body = b"none" if "broken" in name else data.getvalue()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Private) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://ann:S3CRET@127.0.0.1:{running.server_address[1]}"
        running.shutdown()
        thread.join()


def test_no_credential_is_printed_or_stored(lsn, tmp_path: Path, server: str) -> None:
    (tmp_path / "in").mkdir()
    rows = [
        f"{server}/{kind}{at}.png?X-Amz-Signature=S3CRET{at}" for at in range(2) for kind in ("a", "broken")
    ]
    (tmp_path / "in" / "l.csv").write_text(
        "".join(f"{row},{'cat' if row in rows[:2] else 'dog'}\n" for row in rows)
    )
    listed = tmp_path / "in" / "l.csv"
    model = ["--model", "mini", "--device", "cpu"]
    said = [lsn("extract", listed, *model, "--max-failure-rate", "0.1")]
    said += [lsn("extract", f"{server}/a0.png?token=S3CRET", *model, "--split", "s0")]
    said += [lsn("store", "info", "--failures", "--format", form) for form in ("table", "json")]
    for form in ("csv", "table"):
        said += [
            lsn("score", listed, "--classes", "cat,dog", *model, "--format", form, "--max-failure-rate", "1")
        ]
    said += [lsn("extract", f"{server}/a1.png".replace("S3CRET", "S3CRETwrong"), *model, "--split", "none")]
    said += [
        lsn("--debug", "extract", f"{server}/a1.png".replace("S3CRET", "S3CRETwrong"), *model, "--split", "x")
    ]
    said += [lsn("explain", f"{server}/broken1.png?token=S3CRET")]
    assert [one.code for one in said] == [3, 0, 0, 0, 0, 0, 1, 1, 1], [one.err for one in said]
    assert "(401)" in said[-2].err
    assert "Traceback" in said[-2].err
    for one in said:
        assert "S3CRET" not in one.out + one.err
    for path in (path for path in tmp_path.rglob("*") if path.is_file() and path != listed):
        assert b"S3CRET" not in path.read_bytes(), path
        assert "S3CRET" not in path.name
    hidden = server.replace("ann:S3CRET", "***")
    stored = read_split(Workspace(Path("lsn-work")).features, "train")
    assert stored.keys == tuple(f"{hidden}/a{at}.png?X-Amz-Signature=***" for at in range(2))
    assert [one.key for one in stored.failures] == [key.replace("/a", "/broken") for key in stored.keys]
    assert read_split(Workspace(Path("lsn-work")).features, "s0").source == f"{hidden}/a0.png?token=***"
    # What a key was made of does not matter for going on: other signatures are the same images.
    listed.write_text(listed.read_text().replace("Signature=S3CRET", "Signature=S3CRETnew"))
    again = lsn("extract", listed, *model, "--max-failure-rate", "1")
    assert (again.code, "was complete" in again.err) == (0, True), again.err


def test_the_timeout_is_that_of_the_whole_program(
    lsn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(SECONDS, "60")  # and back, after the test
    done = lsn("explain", tmp_path / "none", "--timeout", "0.5")
    assert (done.code, allowed_seconds(), os.environ[SECONDS]) == (2, 0.5, "0.5")
    lsn("explain", tmp_path / "none")
    assert allowed_seconds() == 0.5
    assert lsn("explain", tmp_path / "none", "--timeout", "0").code == 2
    monkeypatch.setenv(SECONDS, "soon")
    assert lsn("explain", tmp_path / "none").code == 2


READING = ("extract", "calibrate", "score", "report", "explain", "not", "train-head", "candidates", "eval")
"""Commands that read images."""


@pytest.mark.parametrize("name", READING)
def test_commands_that_read_urls_have_a_timeout(
    name: str, lsn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(SECONDS, "60")
    command = get_command(app).commands[name]
    words = ["nothing.jpg"] if any(one.param_type_name == "argument" for one in command.params) else []
    lsn(name, *words, "--timeout", "7", "--work", tmp_path / "w")
    assert allowed_seconds() == 7


@pytest.mark.parametrize("name", [*READING, "watch"])
def test_commands_that_decode_images_have_a_time_limit_for_each(
    name: str, lsn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(IMAGE_SECONDS, "30")
    command = get_command(app).commands[name]
    words = ["nothing.jpg"] if any(one.param_type_name == "argument" for one in command.params) else []
    lsn(name, *words, "--image-timeout", "7", "--work", tmp_path / "w")
    assert allowed_image_seconds() == 7
    assert lsn(name, *words, "--image-timeout", "0").code == 2
    monkeypatch.setenv(IMAGE_SECONDS, "soon")
    assert lsn(name, *words).code == 2
