"""Permission hooks of coding agents' command lines: their prompts, answered by people elsewhere."""
