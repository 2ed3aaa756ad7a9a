"""Readers of structure files, one module per format; `io.structure_files` lists them."""
