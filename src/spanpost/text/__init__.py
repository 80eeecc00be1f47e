"""Foreign text: removal of the parts that must not be kept or shown. Pure."""
