"""Settings every test shares: no network, a fixed terminal, deterministic hypothesis."""

import os

os.environ.update(
    HF_HUB_OFFLINE="1",
    NO_COLOR="1",
    COLUMNS="100",
    TERMINAL_WIDTH="100",
    _TYPER_FORCE_DISABLE_TERMINAL="1",
)
for name in [name for name in os.environ if name.startswith("LSN_") and name != "LSN_IMAGES"]:
    del os.environ[name]

from hypothesis import settings

settings.register_profile("lsn", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("lsn")
