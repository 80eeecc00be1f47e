"""Retention and archives: what is old, what is kept, and the Parquet files that old rows move to.

The way of a row, each step safe to interrupt and to repeat:

1. `sources` says which rows of one tenant, table and month are old; `running` finds the months. Rows of a kept task
   stay.
2. `writing` copies them into a temporary file, flushes it, reads it back and compares number and digest of its rows
   with those of the database in the same snapshot. Then the file is listed in `archives` (state `written`) and gets
   its name.
3. `removing` deletes exactly these rows, in one transaction that compares them with the file once more and sets the
   state to `removed`. If a row has changed meanwhile, nothing is deleted; the file is discarded.

So each row is in the table, or in a file whose content was read back; in both only between steps 2 and 3.
"""
