"""Operations on agents: create, command, bind to an account, and delete them."""
