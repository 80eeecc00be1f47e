"""The Model Context Protocol:

``mcp.method.name``, as mcp 2.3 and fastmcp write it. Only ``tools/call`` is work of an agent.
"""

from __future__ import annotations

from spanpost.model.readings import Role
from spanpost.readers.dialect import Dialect

MCP = Dialect(
    name="mcp",
    source="mcp 2.3.0, fastmcp 3",
    cannot_tell=("models and tokens", "the task of a call, unless the agent propagates its trace"),
    kind="mcp.method.name",
    roles={"tools/call": Role.TOOL},
    otherwise=Role.PLUMBING,
    fields={"tool_name": ("mcp.tool.name",)},
)
