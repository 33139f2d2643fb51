"""MR physics: the centred Fourier transform, what an acquisition measures, noise."""
