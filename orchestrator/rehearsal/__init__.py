"""The scripted model endpoint: a process of its own that stands in for the model, and only the model."""
