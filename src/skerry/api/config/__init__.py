"""Our configuration file kinds."""
