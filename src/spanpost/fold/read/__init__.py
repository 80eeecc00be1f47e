"""What observations mean."""
