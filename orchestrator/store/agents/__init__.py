"""Operations on agents: their life, the commands they are given, and which of them may start."""
