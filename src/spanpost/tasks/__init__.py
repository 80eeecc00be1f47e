"""The verbs of the house, pure: no clock, socket, logger, thread or vendor.

`read` says what an observation means, `kin` where it belongs and what counts, `tasks` what is judged and told,
`routes` where news goes. `walk.fold` leads a batch through all of them.
"""
