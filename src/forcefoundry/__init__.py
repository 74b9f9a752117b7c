"""Forcefoundry: a retraining line for interatomic potentials."""
