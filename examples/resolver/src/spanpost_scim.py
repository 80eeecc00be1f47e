"""A resolver: may this person act? It asks an identity provider by SCIM 2.0, as Okta, Entra ID and others serve it.

``SCIM_URL`` (ends in ``/scim/v2``), ``SCIM_TOKEN`` and ``SCIM_GROUP`` name the directory and the group.
"""

from __future__ import annotations

import asyncio
import json
import os
import urllib.parse
import urllib.request
from typing import Any

from spanpost.interactions.protocols import Answer, Question


async def member(question: Question) -> Answer:
    """Allow active members of the group. What raises, or takes more than 1.5 s, refuses: spanpost sees to that."""
    email, group = question.actor.email, os.environ["SCIM_GROUP"]
    if not email or '"' in email or "\\" in email:
        return Answer(is_allowed=False, reason="your address is not known or not confirmed")
    if await asyncio.to_thread(_is_member, email, group):
        return Answer(is_allowed=True)
    return Answer(is_allowed=False, reason=f"you are no active member of {group}")


def _is_member(email: str, group: str) -> bool:
    for person in _listed("Users", f'userName eq "{email}"'):
        names = {one.get("display") for one in person.get("groups", ())}
        if person.get("active") is True and str(person.get("userName", "")).casefold() == email.casefold():
            return group in names
    return False


def _listed(kind: str, wanted: str) -> list[dict[str, Any]]:
    url = f"{os.environ['SCIM_URL'].rstrip('/')}/{kind}?filter={urllib.parse.quote(wanted)}"
    request = urllib.request.Request(url, headers={"authorization": f"Bearer {os.environ['SCIM_TOKEN']}"})
    with urllib.request.urlopen(request, timeout=1.2) as answer:
        return list(json.load(answer).get("Resources", ()))
