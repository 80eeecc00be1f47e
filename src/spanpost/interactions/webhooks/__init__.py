"""Requests of other programs: ``POST /hooks/<provider>``, proven, stored, answered, and understood afterwards."""
