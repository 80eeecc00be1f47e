"""An observation with its meaning."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from spanpost.model.observations import Observation, Part
from spanpost.model.readings import Reading, Role

#: Roles of a running span that may still turn out to be a root span.
UNDECIDED = (Role.OTHER, Role.STEP, Role.PLUMBING)


@dataclass(eq=False)
class Note:
    """One observation, what a reader made of it, and the hash of its content, which decides between equals."""

    o: Observation
    r: Reading
    key: bytes
    #: Wire identity: two notes with the same identity and the same content are one.
    event: bytes

    @cached_property
    def is_span(self) -> bool:
        """True when it says what a span is, not what happened on one."""
        return self.o.part <= Part.STARTED

    @cached_property
    def is_end(self) -> bool:
        return self.o.part is Part.ENDED

    @cached_property
    def is_act(self) -> bool:
        """True for an act of a person, which spanpost recorded itself."""
        return self.o.part is Part.INTERVENTION

    @cached_property
    def is_ending(self) -> bool:
        """True for a copy whose end ends a root span or the trace."""
        return self.is_span and (self.r.role.is_root_span or self.o.parent_id in (b"", self.o.span_id))

    @cached_property
    def at(self) -> int:
        """When it happened (ns). An event that carries the end of its span happened then."""
        return self.o.end_ns if self.o.part is Part.EVENT and self.o.end_ns else self.o.at_ns

    @cached_property
    def begins(self) -> int:
        """When the observed span or event began (ns)."""
        return self.o.start_ns or self.at

    @cached_property
    def rank(self) -> tuple[bool, bool, int, int, bytes]:
        """Its rank among the copies of its span: an ended copy, one with a role, the newest, the fullest."""
        o, has_role = self.o, self.is_end or self.r.role not in UNDECIDED
        return self.is_end, has_role, o.end_ns if self.is_end else o.at_ns, len(o.attributes) + o.unread, self.key

    @cached_property
    def call_name(self) -> str:
        """The name that all copies of one model or tool call share; empty without."""
        return self.r.call_key or (self.r.response_id or "" if self.r.role == 2 else "")


def arranged(notes: Iterable[Note]) -> list[Note]:
    """Return each note once, in order of time."""
    unique = {(n.event, n.key): n for n in notes}
    return sorted(unique.values(), key=lambda n: (n.o.at_ns, n.o.part, n.o.span_id, n.key, n.event))
