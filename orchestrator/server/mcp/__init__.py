"""The MCP server: the table of tools, tasks, and the wires they are served on."""
