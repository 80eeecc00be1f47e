"""The store: protocols, and their implementations in memory and in PostgreSQL."""
