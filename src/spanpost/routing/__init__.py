"""Pure: which checkpoint goes to which sink, when, and when it is retried."""
