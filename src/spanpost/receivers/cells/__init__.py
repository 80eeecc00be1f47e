"""Routing to cells: a request is authenticated here, and answered by the gateway of its tenant's cell.

`assignment` chooses the cell and `headers` the headers that are passed on (both pure); `cell` holds the
connections to one cell; `http` and `grpc` are the endpoints.
"""
