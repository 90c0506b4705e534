"""Device plugins (the kubelet's interface v1beta1): special devices of the node for its pods."""
