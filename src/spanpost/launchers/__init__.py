"""The room of launchers: who starts work that was ordered."""
