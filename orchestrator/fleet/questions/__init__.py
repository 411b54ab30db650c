"""Questions and permissions that must be answered before a tool call runs."""
