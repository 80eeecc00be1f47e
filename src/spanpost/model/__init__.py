"""Frozen values that all parts of the program share.

They are left out of garbage collection (`gc=False`): values cannot contain themselves, and there are many.

Nothing here uses a clock, a socket, a database or a vendor. Import a value from the module that defines it.
"""
