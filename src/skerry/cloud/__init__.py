"""The cloud side of the cloud-edge link."""
