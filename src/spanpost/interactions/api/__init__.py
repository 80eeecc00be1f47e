"""The HTTP API for people and programs: ``/api``."""
