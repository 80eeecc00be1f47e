"""For plugin authors and our own tests."""
