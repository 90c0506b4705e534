"""The kubelet's HTTP interface."""
