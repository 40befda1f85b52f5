"""The reference machine against a real kernel: campaigns, comparison, shrinking."""
