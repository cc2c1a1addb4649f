"""The settings of each kind of method: what an entry of adapt.methods in params.yaml may hold."""
