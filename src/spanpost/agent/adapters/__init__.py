"""Frameworks' own ways of asking a person, answered by people where they look. Each adapter needs its framework, and is imported by name."""
