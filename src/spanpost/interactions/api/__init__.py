"""People and programs come in over HTTP: ``/api``."""
