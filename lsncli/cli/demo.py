"""``lsn demo``: see it work, offline, in about a minute."""


def demo() -> None:
    """Learn prompts, compare methods and score real photos with the bundled mini model."""
