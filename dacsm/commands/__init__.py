"""The commands of `dacsm`, in groups; dacsm/cli.py has those of the rooms."""
