"""Claude agents: the `claude` program, driven through claude-agent-sdk."""
