"""The trained potential where it is used."""
