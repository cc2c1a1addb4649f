"""DACSM: Domain-Adaptive Cross-Scale Matching for unsupervised domain adaptation, as a traceable pipeline."""

__version__ = "0.1.0"
