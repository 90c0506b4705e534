"""The Common Expression Language as Kubernetes speaks it: rules of custom resources, policies, match conditions."""
