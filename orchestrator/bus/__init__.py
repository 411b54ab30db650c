"""Notifications that something was committed; a hint to read the store, never the data itself."""
