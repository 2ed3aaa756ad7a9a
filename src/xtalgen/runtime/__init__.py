"""What every stage needs and no science: processes, resumption, devices, downloads, errors, provenance."""
