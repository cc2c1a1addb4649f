"""The page of an experiment: one HTML file that holds all that it shows, and asks no network for anything."""
