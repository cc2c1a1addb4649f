"""What a model predicts of a domain, and how good that is."""
