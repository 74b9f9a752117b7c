"""How the demonstration makes its own labelled structures: one file a kind, and the database they are written to.

Everything here is imported by the label step only when it runs, since ase and tblite are slow to import.
"""
