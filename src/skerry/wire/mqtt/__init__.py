"""MQTT packets."""
