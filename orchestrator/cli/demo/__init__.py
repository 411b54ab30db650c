"""`fleet demo` and `fleet rehearse`: the real programs with a scripted model, in a sandbox."""
