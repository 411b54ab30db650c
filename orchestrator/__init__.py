"""Fleet: a durable fleet of background coding agents behind one MCP server."""

VERSION = "0.1.0"
