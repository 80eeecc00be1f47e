"""The web board: static files in the package, and the small application that serves them. Its data come from ``/api``."""

from __future__ import annotations

from spanpost.desk.board.serving import PREFIX, Board

__all__ = ["PREFIX", "Board"]
