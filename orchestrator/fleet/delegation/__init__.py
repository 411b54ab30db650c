"""Agents that create agents: plans that fan out, and orchestrators that Fleet runs."""
