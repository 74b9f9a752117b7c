"""The edge of the line: one door per tool, and the steps. Run from the repository's root, never installed."""
