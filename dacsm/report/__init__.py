"""What the numbers of runs look like: tables as CSV, Markdown and LaTeX, differences, and pictures."""
