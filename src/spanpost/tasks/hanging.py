"""Where a subtree hangs: taken over from its owning span, and entered at the owning span above."""

from __future__ import annotations

from spanpost.tasks.facts import Ending
from spanpost.tasks.placement import says
from spanpost.tasks.records import PLACEHOLDER, ChildRoot, Node, Subtree
from spanpost.tasks.requests import learn
from spanpost.tasks.span_tree import SpanTree


def hang(tree: SpanTree, span_id: bytes, node: Node, subtree: Subtree) -> bool:
    """Take over into a subtree where its owning span hangs, what it is, and how it ended.

    Return whether it learned of a request around it.
    """
    subtree.role = node.role
    subtree.up, subtree.is_via_tool = tree.above(node)
    subtree.is_top = node.state != PLACEHOLDER and not node.parent
    if node.closed is not None:
        subtree.facts.ending.merge(Ending(closed=node.closed))
    return learn(subtree.facts, tree, span_id)


def add_child_root(tree: SpanTree, span_id: bytes, subtree: Subtree) -> bool:
    """Enter a subtree below the owning span above it; return whether that changed anything."""
    said = says(tree, span_id, subtree)
    child_root = ChildRoot(subtree.role, subtree.agent_name, subtree.task_id, subtree.is_via_tool, said)
    return tree.add_child_root(subtree.up, span_id, child_root)
