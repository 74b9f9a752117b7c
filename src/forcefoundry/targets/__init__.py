"""Physical quantities from features."""
