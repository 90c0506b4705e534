"""The agent's link to the cloud."""
