"""Implementations shared by the command line and the Python functions: one module per public function."""
