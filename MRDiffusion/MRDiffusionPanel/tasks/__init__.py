"""The tasks of the panel, one file each: what a run is made of, and the rows in which a person chooses it."""

from __future__ import annotations

from .degradation import DegradationSection
from .enhancement import EnhancementSection
from .section import Section
from .superresolution import SuperResolutionSection
from .synthesis import SynthesisSection

SECTIONS: tuple[type[Section], ...] = (
    SynthesisSection,
    SuperResolutionSection,
    DegradationSection,
    EnhancementSection,
)
"""In the order of the buttons."""
