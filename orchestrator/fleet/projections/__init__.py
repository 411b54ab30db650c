"""Turns rows into what doors show: views of agents, and the digest."""
