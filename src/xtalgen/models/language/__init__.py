"""Language models of crystals written as text."""
