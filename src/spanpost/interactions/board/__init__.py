"""The web board: static files, and the endpoint that serves them. Its data come from ``/api``."""

from __future__ import annotations

from spanpost.interactions.board.serving import board_routes

__all__ = ["board_routes"]
