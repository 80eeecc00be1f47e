"""Erasure of a task, a person, a tenant or a time range, from every place that keeps them."""
