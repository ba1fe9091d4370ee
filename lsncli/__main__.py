"""``python -m lsncli`` is ``lsn``."""

from lsncli.cli.app import main

main()
