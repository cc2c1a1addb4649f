"""What kinds of methods share: pairs, pseudo labels, transport, validators, the history of a run."""
