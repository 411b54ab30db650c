"""What an agent is told and given before its turn: system prompt, tools, files of others, plans."""
