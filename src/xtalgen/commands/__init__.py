"""The commands of `xtalgen`, one module each; `functions` holds what they and the functions of the package do."""
