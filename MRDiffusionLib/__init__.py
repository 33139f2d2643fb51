"""Generative diffusion models for MR images (not diffusion-weighted imaging).

Importing this package loads neither torch nor MONAI: a program that only needs a request, a setting or an error
message starts at once. The layers, lowest first: `diffusion`, `physics`, `imaging`, `networks`, `packs`, `training`,
`evaluation`, `tasks`, `worker`. Each imports only those below it (`docs/architecture.md`).
"""

__version__ = "0.1.0"
