"""Text from strangers: what must not be kept or shown of it. Pure; imports nothing of spanpost."""
