"""Autoscaling of pods: ``replicas`` reads metrics, ``behaviour`` bounds the change, ``loop`` writes the scale."""
