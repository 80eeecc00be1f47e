"""``python -m spanpost`` is ``spanpost``."""

from spanpost.cli import main

main()
