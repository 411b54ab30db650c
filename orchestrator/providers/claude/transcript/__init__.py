"""A Claude conversation on disk and in the store: found, read, mirrored, written back."""
