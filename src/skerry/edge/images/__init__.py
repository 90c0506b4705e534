"""Images on this node: fetched as pods need them, and removed when the disk fills."""
