"""Requests with `urllib` that follow no redirect."""

from __future__ import annotations

import urllib.request
from typing import Any


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """Refuses redirects: a redirected request would leak the token and lose its body."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None
