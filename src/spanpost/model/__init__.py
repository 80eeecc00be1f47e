"""The nouns of the house: frozen values that walk from room to room.

They are left out of garbage collection (`gc=False`): values cannot hold themselves, and there are many.

Nothing here knows a clock, a socket, a database or a vendor. Import the values from the module that owns them.
"""
