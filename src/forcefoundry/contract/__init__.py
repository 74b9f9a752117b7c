"""The door's contract: what is measured of each row, the checks, what they find, and where wrong rows are kept."""
