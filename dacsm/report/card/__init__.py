"""The model card of an exported model: what is known of the model, and the text in which that is said."""
