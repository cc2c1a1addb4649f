"""What runs there are, what each was made from, and whether it still is what it says."""
