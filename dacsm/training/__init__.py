"""What pretraining and adaptation share: losses, optimisation, and the bookkeeping of an epoch."""
