"""One module per revision, named after it.

A minor revision only adds, so that older gateways keep working.
"""
