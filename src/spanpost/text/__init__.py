"""Foreign text: what must not be kept or shown of it. Pure."""
