"""Refuse at once what the later stages of a run would refuse after hours of training."""

from controlgen.config import RunConfig
from controlgen.editing.confidence.fit import FEWEST
from controlgen.editing.rejection_sampling import kept_apart
from controlgen.errors import ConfigError
from controlgen.evaluation import check_classes
from controlgen.metrics.classifier import sources_of
from controlgen.metrics.perceptual import open_distance
from controlgen.stages.fit_confidence import Believing
from controlgen.stages.reuse_generator import check_generator
from controlgen.stages.sample_bank import looked_at


def check_fit(run: RunConfig) -> None:
    """Open everything that the map of a run will need beside its generator.

    Raises ArtifactMissing, ArtifactCorrupt, ConfigError, DataError or Incompatible, as the stages
    themselves would; makes nothing.
    """
    check_generator(run)
    dataset = run.train.dataset.open()
    shape = dataset.image_shape
    if likeness := run.sample.likeness:
        kept_apart(sources_of(dataset, looked_at(likeness, dataset)), likeness)
    if run.fit.attributes is not None:
        run.fit.attributes.check(shape)
    run.embed.space.open()
    # One half of what is held out makes the scale of reachability.
    if run.fit.reachability is not None and run.fit.held_out // 2 < FEWEST:
        raise ConfigError(
            f"fit.reachability: fit.held_out = {run.fit.held_out} is too few; hold out at least "
            f"{2 * FEWEST}"
        )
    Believing.of(run.fit.reachability, run.train.dataset)


def check_evaluation(run: RunConfig) -> None:
    """Open everything that judging a run will need: both splits, their classes, the audit space.

    Raises what `check_fit` raises; makes nothing.
    """
    config = run.evaluate
    real = {split: run.train.dataset.judging(split).open() for split in ("train", "test")}
    prompts = [config.prompt.format(one) for one in config.class_names]
    check_classes(real["train"], config, config.class_names, prompts)
    config.audit.open()
    if config.perceptual is not None:
        open_distance(config.perceptual)
