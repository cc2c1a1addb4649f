"""The stages of the pipeline, each with one function: what happens, in order."""
