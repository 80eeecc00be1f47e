"""The sealed log: each audit row and intervention is a leaf of its tenant's Merkle tree (RFC 6962), whose checkpoints
are signed. The formats are those of C2SP: tlog-tiles, tlog-checkpoint and signed-note.
"""
