"""What a run needs and that changes no number: errors, files, fetching, the device, progress, resuming."""
