"""What the command line and Python callers share: one module per public function."""
