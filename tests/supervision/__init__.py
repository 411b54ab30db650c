"""How a child process lives and surely dies."""
