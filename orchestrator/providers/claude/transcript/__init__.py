"""Transcripts of Claude conversations, on disk and in the store: found, read, mirrored and restored."""
