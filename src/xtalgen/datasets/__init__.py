"""Published and embedded data sets: sources and readers."""
