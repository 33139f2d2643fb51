"""Networks, built from MONAI's blocks."""
