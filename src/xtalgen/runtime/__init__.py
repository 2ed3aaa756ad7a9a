"""Infrastructure of all stages, without science: processes, resumption, devices, downloads, errors, provenance."""
