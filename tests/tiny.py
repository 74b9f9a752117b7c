"""Overrides that make the whole line run in seconds: a few small molecules, a small network, few epochs."""

TINY: list[str] = [
    "database.label.max_molecules=5",
    "database.label.frames=8",
    "database.split.valid=0.2",
    "database.split.test=0.2",
    "database.split.held_out=[]",
    "network.n_features=6",
    "network.n_sensitivities=6",
    "network.n_interactions=1",
    "network.n_atom_layers=1",
    "training.max_epochs=3",
]
