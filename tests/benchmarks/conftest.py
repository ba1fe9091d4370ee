"""A made-up mini benchmark on disk, with a made-up text tower in place of the mini model's."""

from pathlib import Path

import pytest
from mini_samples import letter_tower, write_store

from benchmarks.mini import store


@pytest.fixture(scope="session")
def made_up_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made-up-bench")
    write_store(folder)
    return store.store_at(folder)


@pytest.fixture
def bench(made_up_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder with all features and nothing learned."""
    tower = letter_tower()
    monkeypatch.setattr(store, "text_tower", lambda cache: tower)
    store.store_at(tmp_path).symlink_to(made_up_store)
    return tmp_path
