"""``spanpost demo``: a small agent, and the house that follows it."""
