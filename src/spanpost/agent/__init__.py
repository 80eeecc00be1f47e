"""What an agent imports. Needs opentelemetry-api and spanpost.conventions alone."""
