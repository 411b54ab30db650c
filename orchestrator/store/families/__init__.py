"""What the agents of a family share: budgets, and parents that wait for their children."""
