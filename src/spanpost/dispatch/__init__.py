"""The dispatcher takes deliveries from the outbox to the sinks."""
