"""What a training looks like that goes well, and how the tests watch one."""

from controlgen.evaluation.convergence import Evidence

GOOD = Evidence(
    images_seen=0,
    distance=0.1,
    distance_now=0.12,
    floor=0.05,
    untrained=2.0,
    precision=0.6,
    precision_floor=0.7,
    coverage=0.7,
    coverage_floor=0.95,
    spread=0.95,
    critic_real=1.0,
    critic_fake=0.2,
    slope_real=0.5,
    slope_fake=0.4,
)
WATCH = {"extractor": {"kind": "efficientnet-lite0", "image_size": 32}, "n": 32, "every_images": 8}
