"""Readers and writers of the file formats that users bring and take away."""
