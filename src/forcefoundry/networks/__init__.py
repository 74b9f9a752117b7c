"""Features of atoms from species and pairs."""
