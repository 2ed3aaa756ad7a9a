"""Common to all samplers: requests for crystals and their bookkeeping."""
