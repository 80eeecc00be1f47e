"""Tasks, computed from observations: no clock, socket, logger, thread or vendor.

`readers` says what an observation means, `span_tree` and `ownership` which task it belongs to and what
counts, `status` and `closing` what the task's state is, `checkpoints` what people are notified of.
`fold.fold` leads a batch through all of them.
"""
