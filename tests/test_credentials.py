"""Credentials of URLs never reach a terminal, an error or a store."""

import pickle
import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lsncli.console import printable, say
from lsncli.credentials import mask_credentials
from lsncli.errors import LsnError


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://ann:pw@host/a.jpg", "https://***@host/a.jpg"),
        ("https:/ann:pw@host/a.jpg", "https://***@host/a.jpg".replace("//", "/")),  # as Path writes it
        ("https://token@host:8000/", "https://***@host:8000/"),
        ("http://ann:p@w:x@[::1]:80/a", "http://***@[::1]:80/a"),
        ("sftp://ann:pw@host/a", "sftp://ann:***@host/a"),
        ("sftp://ann@host/a", "sftp://ann@host/a"),
        ("zip://a.jpg::https://ann:pw@host/a.zip", "zip://a.jpg::https://***@host/a.zip"),
        ("s3://ID:SECRET@bucket/key", "s3://ID:***@bucket/key"),
        ("https://h/a?X-Amz-Date=1&X-Amz-Signature=abc&x=1", "https://h/a?X-Amz-Date=1&X-Amz-Signature=***&x=1"),
        ("https://h/a?X-Amz-Credential=A%2Fb&X-Amz-Security-Token=c", "https://h/a?X-Amz-Credential=***&X-Amz-Security-Token=***"),
        ("https://a.blob.core.windows.net/c/a.jpg?sv=1&sig=a%3D", "https://a.blob.core.windows.net/c/a.jpg?sv=1&sig=***"),
        ("'https://h/a?access_token=abc' cannot be read", "'https://h/a?access_token=***' cannot be read"),
        ("https://h/a.jpg#token=abc", "https://h/a.jpg#token=***"),
        ("https://h/a?key=AIzaSyA-1234567890abcdefgh", "https://h/a?key=***"),
        ("http://h:80/x 'http://ann:pw@h/'", "http://h:80/x 'http://***@h/'"),
    ],
)  # fmt: skip
def test_what_gives_access_is_hidden(text: str, shown: str) -> None:
    assert mask_credentials(text) == shown
    assert mask_credentials(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "https://host/a@b:c.jpg",
        "https://host:8000/a?size=20&page=2#top",
        "https://host/a?key=photos/cat-1.jpg",
        "https://host/a?design=1&assigned=2",
        "photos/token=1/a.jpg",
        "C:/users/ann@home",
        "ann:pw@host",
    ],
)
def test_what_gives_no_access_stays(text: str) -> None:
    assert mask_credentials(text) == text


SECRET = st.text(string.ascii_letters + string.digits + "-._~!$'()*+,;=%@:", min_size=1).map(
    lambda text: f"S3{text}"
)
QUIET = string.ascii_letters + string.digits + "-._~!$()*+,;%@:"


@given(user=st.text(string.ascii_letters, max_size=5), secret=SECRET, port=st.integers(1, 65535))
@example(user="", secret="S3@", port=1)
def test_no_password_survives(user: str, secret: str, port: int) -> None:
    for scheme in ("http", "https", "ftp", "sftp", "smb", "webdav"):
        shown = mask_credentials(f"Reading '{scheme}://{user}:{secret}@host:{port}/a.jpg' failed.")
        assert "S3" not in shown
        assert f"@host:{port}/a.jpg' failed." in shown


@given(
    name=st.sampled_from(["sig", "token", "X-Goog-Signature", "apikey", "api_key", "pwd", "auth_token"]),
    secret=st.text(QUIET + "=/", min_size=1).map(lambda text: f"S3{text}"),
    before=st.sampled_from(["", "a=1&"]),
    after=st.sampled_from(["", "&a=1", "#x"]),
)  # fmt: skip
def test_no_token_survives(name: str, secret: str, before: str, after: str) -> None:
    assert (
        mask_credentials(f"https://host/a?{before}{name}={secret}{after}")
        == f"https://host/a?{before}{name}=***{after}"
    )


def test_errors_and_lines_on_stderr_are_masked(capsys: pytest.CaptureFixture[str]) -> None:
    error = LsnError("'https://ann:pw@host/' cannot be read.", "Try http://bob:pw@h/?sig=pw")
    assert str(error) == "'https://***@host/' cannot be read. Try http://***@h/?sig=***"
    assert "pw" not in repr(error)
    assert pickle.loads(pickle.dumps(error)).message == error.message
    assert printable("https://ann:pw@host/\n") == "https://***@host/\\n"
    say("Wrote https://ann:pw@host/")
    assert capsys.readouterr().err == "Wrote https://***@host/\n"
