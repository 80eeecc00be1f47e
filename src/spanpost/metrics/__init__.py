"""Prometheus, fed by what a store newly recorded and by what the dispatcher carried; by nothing else.

`house` counts, `fleet` shows what is under way on the database, `series` keeps the number of series in bounds, `serving` is the
HTTP server, and `bridge` tells the same to an OpenTelemetry meter.
"""

from spanpost.metrics.recorder import Metrics as Metrics
from spanpost.metrics.serving import MetricsServer as MetricsServer
