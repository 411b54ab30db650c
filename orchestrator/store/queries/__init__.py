"""Reads over many agents; nothing here writes."""
