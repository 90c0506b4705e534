"""KubeEdge's cloud-edge protocols."""
