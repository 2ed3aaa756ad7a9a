"""Tables, learning curves and published values."""
