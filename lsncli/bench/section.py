"""A table of a TOML file, read key by key: what is missing, unknown or of another kind is named."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from lsncli import validation
from lsncli.errors import UsageError


class Section:
    """One table; ``where`` is the file and the table, as messages name it. All raise UsageError."""

    def __init__(self, where: str, content: Mapping[str, Any]) -> None:
        self.where = where
        self.content = content
        self._known: list[str] = []

    def text(self, key: str, default: str | None = None) -> str:
        """A string; without a default it must be there."""
        value = self._get(key, "a text" if default is None else "")
        if value is None:
            return default or ""
        if not isinstance(value, str) or (default is None and not value.strip()):
            self.wrong(key, "a text", value)
        return value

    def number(self, key: str, default: int | None = None) -> int | None:
        """A whole number above 0."""
        value = self._get(key)
        if value is None:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            self.wrong(key, "a whole number above 0", value)
        return value

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self._get(key)
        if value is not None and not isinstance(value, bool):
            self.wrong(key, "true or false", value)
        return default if value is None else value

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of strings, empty if the key is not there."""
        value = self._get(key)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            self.wrong(key, "a list of texts", value)
        return tuple(value)

    def text_or_texts(self, key: str) -> str | tuple[str, ...]:
        """A string, or a list of them; "" if the key is not there."""
        return self.texts(key) if isinstance(self.content.get(key), list) else self.text(key, "")

    def table(self, key: str) -> dict[str, Any]:
        """A table as it is, empty if the key is not there."""
        value = self._get(key)
        if value is None:
            return {}
        if not isinstance(value, dict):
            self.wrong(key, f"a table [{key}]", value)
        return value

    def sections(self, key: str) -> dict[str, "Section"]:
        """A table of tables."""
        found = {}
        for name, content in self.table(key).items():
            if not isinstance(content, dict):
                self.wrong(f"{key}.{name}", "a table", content)
            found[name] = Section(f"{self.where}, [{key}.{name}]", content)
        return found

    def one_of(self, key: str, name: str, known: Iterable[str]) -> str:
        """``name`` if it is one of ``known``."""
        known = tuple(known)
        if name not in known:
            self.wrong(key, f"one of {', '.join(known) or 'nothing: none is defined'}", name)
        return name

    def rest(self) -> dict[str, Any]:
        """Everything that was not asked for yet."""
        left = {key: value for key, value in self.content.items() if key not in self._known}
        self._known += left
        return left

    def end(self) -> None:
        """Nothing may be left."""
        left = [key for key in self.content if key not in self._known]
        if left:
            raise UsageError(
                f"{self.where}: there is no key '{left[0]}'.", f"Expected {', '.join(sorted(self._known))}."
            )

    def wrong(self, key: str, expected: str, found: Any) -> NoReturn:
        """Say that ``key`` holds what cannot be meant."""
        raise UsageError(f"{self.where}, key '{key}': expected {expected}, found {found!r}.")

    def _get(self, key: str, needed: str = "") -> Any:
        self._known.append(key)
        if needed and key not in self.content:
            raise UsageError(f"{self.where}: expected {needed} under the key '{key}', found none.")
        return self.content.get(key)


def read_toml(path: Path, what: str) -> Section:
    """The whole file. Raises UsageError if it cannot be read or is not TOML."""
    try:
        return Section(str(path), validation.read_toml(path))
    except OSError as error:
        raise UsageError(f"{what} {path} cannot be read: {error.strerror or error}.") from error
    except ValueError as error:
        raise UsageError(f"{path} is not valid TOML: {error}.") from error
