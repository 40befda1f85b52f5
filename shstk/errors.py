"""What a user can do wrong."""

from __future__ import annotations


class UserError(Exception):
    """What was asked for cannot be; the message says what would be right."""
