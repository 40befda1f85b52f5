"""Proofs: the text in a symbolic world, obligations, solvers."""
