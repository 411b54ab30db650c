"""The doors' side of the daemon: MCP and HTTP; translation only, no rule of the fleet."""
