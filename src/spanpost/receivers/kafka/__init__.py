"""Kafka in front of the store: the gateway writes to a topic, and consumers record what is on it."""
