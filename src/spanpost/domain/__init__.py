"""The nouns of the house: frozen values that walk from room to room.

Nothing here knows a clock, a socket, a database or a vendor. Import the values from the module that owns them.
"""
