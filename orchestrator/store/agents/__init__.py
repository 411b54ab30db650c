"""Operations on agents: create and delete them, command them, and decide which may start."""
