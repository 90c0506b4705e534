"""Volumes: ``matching`` pairs claims with volumes, ``binder`` writes the pairs, ``node_local`` makes volumes."""
