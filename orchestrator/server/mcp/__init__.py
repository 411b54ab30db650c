"""The MCP server: the tools, durable waits as MCP tasks, and the transports."""
