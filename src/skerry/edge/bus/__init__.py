"""The MQTT bus of the node."""
