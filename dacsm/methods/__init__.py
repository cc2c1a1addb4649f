"""The kinds of methods, each a module or a folder behind one interface."""
