"""Clients under faults, the history of what they saw, and the checker that judges it."""
