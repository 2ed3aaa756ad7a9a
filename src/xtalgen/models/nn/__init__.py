"""Networks, data on the device and the training loop that the models share."""
