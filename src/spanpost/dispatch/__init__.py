"""How a delivery travels from the outbox to a sink: the rules that both stores share."""
