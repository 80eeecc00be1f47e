"""HTTP: one router, one authenticator and one error body for every endpoint."""
