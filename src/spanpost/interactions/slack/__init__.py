"""Slack's side of the desk: needs ``pip install 'spanpost[interactions]'``."""
