"""What every sampler shares: requests for crystals and their bookkeeping."""
