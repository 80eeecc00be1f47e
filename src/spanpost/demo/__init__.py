"""``spanpost demo``: a small agent, and the pipeline that follows it."""
