"""Checks that find errors of later stages before hours of training."""

from controlgen.config import RunConfig
from controlgen.editing.confidence.fit import MIN_ITEMS
from controlgen.editing.rejection_sampling import calibration_split
from controlgen.errors import ConfigError
from controlgen.evaluation import check_classes
from controlgen.metrics.classifier import source_ids
from controlgen.metrics.perceptual import open_distance
from controlgen.stages.fit_confidence import ConfidenceFit
from controlgen.stages.reuse_generator import check_generator
from controlgen.stages.sample_bank import calibration_indices


def preflight_fit(run: RunConfig) -> None:
    """Open everything that fitting the map will need, apart from its generator.

    Raises ArtifactMissing, ArtifactCorrupt, ConfigError, DataError or Incompatible, as the stages
    themselves would; writes nothing.
    """
    check_generator(run)
    dataset = run.train.dataset.open()
    shape = dataset.image_shape
    if rejection := run.sample.likeness:
        calibration_split(source_ids(dataset, calibration_indices(rejection, dataset)), rejection)
    if run.fit.attributes is not None:
        run.fit.attributes.check(shape)
    run.embed.space.open()
    # One half of the held-out images sets the scale of the confidence.
    if run.fit.reachability is not None and run.fit.held_out // 2 < MIN_ITEMS:
        raise ConfigError(
            f"fit.reachability: fit.held_out = {run.fit.held_out} is too few; hold out at least "
            f"{2 * MIN_ITEMS}"
        )
    ConfidenceFit.of(run.fit.reachability, run.train.dataset)


def preflight_evaluation(run: RunConfig) -> None:
    """Open everything that the evaluation will need: both splits, their classes, the audit space.

    Raises what `preflight_fit` raises; writes nothing.
    """
    config = run.evaluate
    real = {split: run.train.dataset.with_split(split).open() for split in ("train", "test")}
    prompts = [config.prompt.format(class_name) for class_name in config.class_names]
    check_classes(real["train"], config, config.class_names, prompts)
    config.audit.open()
    if config.perceptual is not None:
        open_distance(config.perceptual)
