"""Objects down to nodes, reports up to the cluster."""
