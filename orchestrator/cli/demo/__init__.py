"""`fleet demo`: the whole job with a scripted model, in a place of its own, shown as it happens."""
