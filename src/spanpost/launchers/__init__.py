"""Launchers start work that was ordered."""
