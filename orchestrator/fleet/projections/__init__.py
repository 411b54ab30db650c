"""Rows turned into what doors show: views of agents, and the digest."""
