"""The networks: the classifier, its three-stream forward, and what DACSM adds to it."""
