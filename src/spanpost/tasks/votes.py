"""Approvals of a question that needs several people: who counts as one person."""

from __future__ import annotations

from collections.abc import Sequence

from spanpost.model.interventions import Actor, Vote


def with_vote(votes: Sequence[Vote], vote: Vote) -> tuple[Vote, ...]:
    """Return the approvals with one more: each person has one, the newest."""
    return (*(known for known in votes if not _is_one_person(known, vote)), vote)


def _is_one_person(one: Vote, other: Vote) -> bool:
    """Return whether two votes count as one person's: they do unless they are known to be of different people.

    Different people have different ids at one provider, and different verified addresses where both are known. At
    two providers only addresses identify them.
    """
    if one.by_id == other.by_id:
        return True
    if one.email and other.email:
        return one.email.casefold() == other.email.casefold()
    return one.by_id.rpartition(":")[0] != other.by_id.rpartition(":")[0]


def is_requester(actor: Actor, requested_by: str | None) -> bool:
    """Return whether a task says that it runs for this person, by address, id or name."""
    said = (requested_by or "").strip().casefold()
    return bool(said) and said in {name.casefold() for name in (actor.email, actor.id, actor.name) if name}
