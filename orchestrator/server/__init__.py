"""MCP and HTTP: how clients reach the daemon. Translates requests and answers; the rules are in `fleet` and `store`."""
