"""Prometheus metrics, counted only from the store's new records and the dispatcher's deliveries.

`recorder` counts, `fleet` shows all open work in the database, `series` limits the number of series,
`serving` is the HTTP server, and `bridge` reports the same figures to an OpenTelemetry meter.
"""
