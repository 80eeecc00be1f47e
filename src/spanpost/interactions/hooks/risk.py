"""The risk of a tool call, by a plain rule of its tool and the words of its command.

Rules. ``low``: a tool that only reads. ``high``: a command with a word that deletes, raises rights, overwrites
history or goes to the network, or with text that a shell runs in turn. ``medium``: everything else. It is a
hint for people, and decides nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

LOW, MEDIUM, HIGH = "low", "medium", "high"
_READS: Final = frozenset(
    (
        *("read", "glob", "grep", "ls", "notebookread", "todowrite"),
        *("read_file", "read_many_files", "list_directory", "search_file_content"),
    )
)
_NETWORK: Final = frozenset(["webfetch", "websearch", "web_fetch", "web_search", "google_web_search"])
#: Words of a shell command, wherever they stand in it.
_DANGEROUS: Final = re.compile(
    r"(?<![\w.-])(?:"
    r"rm|rmdir|unlink|shred|truncate|dd|mkfs\S*|wipefs|fdisk|parted|"
    r"sudo|su|doas|chmod|chown|chgrp|setfacl|kill|killall|pkill|shutdown|reboot|systemctl|crontab|"
    r"curl|wget|nc|ncat|netcat|socat|ssh|scp|sftp|rsync|ftp|telnet|"
    r"eval|exec|xargs|"
    r"push|publish|deploy|destroy|delete|drop|purge|prune|uninstall|--force|--hard|--no-verify"
    r")(?![\w.-])|\|\s*(?:ba|z|da)?sh\b|>\s*/(?!dev/null)|\$\(|`",
    re.IGNORECASE,
)


def risk_of(tool: str, tool_input: Mapping[str, Any]) -> str:
    """Return low, medium or high."""
    name = tool.lower()
    if name in _READS:
        return LOW
    if name in _NETWORK:
        return HIGH
    command = tool_input.get("command")
    if isinstance(command, list):
        command = " ".join(str(part) for part in command)
    if isinstance(command, str) and _DANGEROUS.search(command):
        return HIGH
    return MEDIUM
