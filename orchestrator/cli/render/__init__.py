"""Answers of the daemon as text, tables and JSON."""
