"""Names of metrics: published names belong to one extractor each.

FID and KID are Inception-v3's 2048 pooled features, the Inception Score its classes, CMMD is CLIP
ViT-L/14 at 336 pixels. The same formula on other features is another metric, and is named after its
extractor.
"""

INCEPTION, INCEPTION_SIZE = "inception-v3", 2048
CMMD_EXTRACTOR = "ViT-L-14-336-openai"  # as open_clip names the network and its weights
FEW = 2048  # images below which a Frechet distance is mostly bias


def frechet_name(extractor: str, size: int) -> str:
    """ "FID" for Inception-v3's 2048 features alone, else "FD-<extractor>"."""
    return _metric_name("FID", "FD", extractor, size)


def kernel_name(extractor: str, size: int) -> str:
    """ "KID" for Inception-v3's 2048 features alone, else "KD-<extractor>"."""
    return _metric_name("KID", "KD", extractor, size)


def inception_score_name(extractor: str) -> str:
    """ "IS" for Inception-v3's classes alone, else "IS-<extractor>"."""
    return "IS" if extractor == INCEPTION else f"IS-{extractor}"


def cmmd_name(extractor: str, size: int) -> str:
    """ "CMMD" for CLIP ViT-L/14 at 336 pixels alone, else "MMD-<extractor>"."""
    return "CMMD" if extractor == CMMD_EXTRACTOR else f"MMD-{_sized(extractor, size)}"


def few_images(n: int, size: int) -> str | None:
    """One line to print beside a Frechet distance of n images and `size` features, or None.

    n is the smaller of the two sets. A covariance of n rows has rank n - 1 at most; even at full
    rank the distance is biased upwards by an amount that falls with n (Chong and Forsyth 2020).
    """
    if n <= size:
        problem = f"rank-deficient: {n} images span no {size} features"
    elif n < FEW:
        problem = f"{n} images are fewer than {FEW}: mostly bias"
    else:
        return None
    return f"{problem}; compare equal n only, and see the kernel distance (KID) and CMMD"


def _metric_name(published: str, short: str, extractor: str, size: int) -> str:
    standard = extractor == INCEPTION and size == INCEPTION_SIZE
    return published if standard else f"{short}-{_sized(extractor, size)}"


def _sized(extractor: str, size: int) -> str:
    # Other layers of Inception add their size, because the network alone would be ambiguous.
    other_layer = extractor == INCEPTION and size != INCEPTION_SIZE
    return f"{extractor}-{size}" if other_layer else extractor
