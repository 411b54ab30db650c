"""Which queued agents start next: one decision in one transaction, whenever a slot, an input or a checkout is free."""
