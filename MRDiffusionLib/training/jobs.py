"""The job of a configuration."""

from __future__ import annotations

from collections.abc import Callable

from .autoencoder_job import AutoencoderJob
from .config import PairedConfig, QualityConfig, RunConfig, TrainingConfig, is_checkpoint
from .degrader_job import DegraderJob
from .enhancer_job import EnhancerJob
from .job import Job
from .slices_job import SlicesJob
from .start import start_from_checkpoint, start_from_quality_pack, start_from_synthesis_pack
from .synthesis_job import SynthesisJob
from .translation_job import TranslationJob

PAIRED: dict[str, Callable[[PairedConfig], Job]] = {
    "autoencoder": AutoencoderJob,
    "synthesis": SynthesisJob,
    "translation": TranslationJob,
}

QUALITY: dict[str, Callable[[QualityConfig], DegraderJob | EnhancerJob]] = {
    "degrader": DegraderJob,
    "enhancer": EnhancerJob,
}


def make_job(config: RunConfig, fresh: bool = True) -> Job:
    """What a configuration trains. Raises InputError, PackError, SettingError.

    Args:
        config: the run.
        fresh: whether it begins; else the weights come from its checkpoint.
    """
    if isinstance(config, TrainingConfig):
        return SlicesJob(config, fresh)
    if isinstance(config, QualityConfig):
        quality = QUALITY[config.task](config)
        if config.start and fresh:
            if is_checkpoint(config.start):
                start_from_checkpoint(quality.model, config.start)
            else:
                start_from_quality_pack(quality.model, config.start)
        return quality
    assert isinstance(config, PairedConfig)
    job = PAIRED[config.task](config)
    if config.start and fresh:
        if is_checkpoint(config.start):
            start_from_checkpoint(job.model, config.start)
        else:
            start_from_synthesis_pack(job.model, config.start, config.task)
    return job
