"""The local testing data set: small, seeded, synthetic, checked in under `data/`."""
