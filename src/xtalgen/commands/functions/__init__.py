"""What the command line and Python share: the public functions, what they take and what they return."""
