"""spanpost posts an agent's OpenTelemetry spans where people look."""
