"""Notifications: a hint that something was committed, never the truth."""
