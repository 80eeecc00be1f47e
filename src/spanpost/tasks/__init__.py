"""From spans to task states. Pure: no clock, socket, logger, thread or vendor.

`readers` says what an observation means, `span_tree` and `placement` where it belongs and what counts,
`status` what a task's state is, `routing` where checkpoints go. `batches.fold` leads a batch through all of
them.
"""
