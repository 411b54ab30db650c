"""What an agent receives before its turn: system prompt, tools, files of other agents, and how it may plan."""
