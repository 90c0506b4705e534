"""Protocol buffers by generated tables."""
