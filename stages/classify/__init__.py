"""Networks, the training protocol, and metrics."""
