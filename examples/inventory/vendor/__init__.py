"""Copied from suppliers; not ours to change."""
