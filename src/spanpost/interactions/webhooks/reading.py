"""Reads a provider's request and chooses the act for it. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qs

from spanpost.interactions.webhooks.base import Does, Provider
from spanpost.routing.matching import is_wanted
from spanpost.text.templates import text_of, value_at

#: Key of the headers in the document that fills templates.
HEADER: Final = "header"


def document_of(headers: Mapping[str, str], body: bytes) -> dict[str, Any] | None:
    """Return a request's JSON, with its headers added; None if it has none.

    A form whose field ``payload`` holds JSON is accepted too. JSON that is no object is placed under
    ``body``.
    """
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        text = body.decode("utf-8")
        if kind == "application/x-www-form-urlencoded":
            text = parse_qs(text, max_num_fields=100).get("payload", [""])[0]
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    document = dict(found) if isinstance(found, dict) else {"body": found}
    return {**document, HEADER: dict(headers)}


def chosen(provider: Provider, document: Mapping[str, Any]) -> Does | None:
    """Return the act for a request: the first whose conditions it meets."""
    for does in provider.does:
        if all(is_wanted(wanted, _said(document, path)) for path, wanted in does.when.items()):
            return does
    return None


def _said(document: Mapping[str, Any], path: str) -> str | None:
    value = value_at(document, path)
    return None if value is None else text_of(value)
