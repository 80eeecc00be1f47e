"""Receivers of telemetry and alerts: in-process, OTLP over HTTP and gRPC, and alert webhooks."""
