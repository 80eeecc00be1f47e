"""Pure: which checkpoint goes to which sink, when, and how often it is tried again."""
