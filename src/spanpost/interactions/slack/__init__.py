"""Slack interactions: needs ``pip install 'spanpost[interactions]'``."""
