"""Webhooks: ``POST /hooks/<provider>``. Requests are verified, stored, answered, and read afterwards."""
