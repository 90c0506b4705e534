"""What the standard library lacks, and the only doors to third-party code. Knows nothing of Kubernetes."""
