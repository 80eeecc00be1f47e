"""What grafana/ is made from: rules, runbooks and dashboards, as code. `scripts/write_grafana.py` writes it."""
