"""Rows of provider processes and of conversations."""
