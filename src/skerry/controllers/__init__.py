"""Kubernetes control loops for the embedded control plane."""
