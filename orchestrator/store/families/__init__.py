"""What a family shares: budgets, and children that their parent waits for."""
