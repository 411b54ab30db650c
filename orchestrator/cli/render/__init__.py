"""Turns the daemon's answers into text, tables and JSON."""
