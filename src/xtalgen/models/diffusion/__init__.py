"""Diffusion models of crystals: DDPM, annealed Langevin dynamics, and CDVAE's variational autoencoder."""
