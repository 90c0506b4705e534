"""What Kubernetes objects mean, without I/O."""
