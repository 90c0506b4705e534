"""The kubelet's streams."""
