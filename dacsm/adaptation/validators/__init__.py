"""Validators: each scores an epoch of an adaptation without target labels, and the higher score is the better.

Each is a module with a function `score`. Adaptation imports only the one that its recipe names, to keep the weights of
the best epoch; evaluation imports all of them (dacsm/adaptation/scores.py).
"""
