"""Writers of structure files, one module per family of forms; `registry` lists them."""
