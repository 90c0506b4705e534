"""What this node can give to pods: how much, to whom, and who goes when it runs short."""
