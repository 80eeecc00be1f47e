"""Prometheus metrics, counted only from what the store newly recorded and what the dispatcher delivered.

`recorder` counts, `fleet` shows what is open in the database, `series` limits the number of series,
`serving` is the HTTP server, and `bridge` reports the same figures to an OpenTelemetry meter.
"""
