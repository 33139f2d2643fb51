"""Training of the packs: data sets, the variational bound, the loop."""
