"""The function libraries that Kubernetes v1.36 gives to expressions, one module each."""
