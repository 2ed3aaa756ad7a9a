"""Tables, figures and published values: everything a person reads."""
