"""Adapters of frameworks' own human-in-the-loop features.

Each needs its framework and is imported by name.
"""
