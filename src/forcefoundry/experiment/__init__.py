"""Assembling, training and judging."""
