"""Networks, built from MONAI's blocks."""

from ..lean import import_monai

import_monai()
