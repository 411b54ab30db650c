"""The tables, and the transitions that every operation builds on."""
