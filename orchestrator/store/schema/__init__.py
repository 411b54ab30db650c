"""The tables, their rows, and the transitions that every operation builds on."""
