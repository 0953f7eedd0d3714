"""Plans of probes of the cells of a frozen backbone."""

from typing import Any

_CELLS, _HELD_OUT = 20_000, 0.2


def linear(size: tuple[int, int], classes: int | str, **more: Any) -> dict[str, Any]:
    """Multinomial logistic regression on images scaled to `size` (height, width); five penalties to choose from.

    `classes` is a number, or `data:labels` for that of own data. `more` are further fields, e.g. `labels`, the share of
    the training images whose labels are used.
    """
    return dict(
        kind="linear",
        size=size,
        classes=classes,
        cells=_CELLS,
        held_out=_HELD_OUT,
        candidates=(0.00003, 0.0003, 0.003, 0.03, 0.3),
        options=dict(iterations=60),
        **more,
    )


def robustness(size: tuple[int, int], classes: int) -> dict[str, Any]:
    """The linear classifier on corrupted images of `size` (height, width): three strengths of five corruptions."""
    corruptions = dict(
        noise=(0.06, 0.12, 0.24),
        blur=(1.0, 2.0, 4.0),
        brightness=(0.15, 0.3, 0.45),
        contrast=(0.6, 0.35, 0.15),
        jpeg=(30, 15, 7),
    )
    return linear(size, classes, corruptions=corruptions) | dict(kind="robustness")


def knn(size: tuple[int, int], classes: int | str, **more: Any) -> dict[str, Any]:
    """Vote of the nearest training cells on images scaled to `size` (height, width); four counts to choose from.

    `more` may be `images`, the most training images that are used.
    """
    return dict(
        kind="knn",
        size=size,
        classes=classes,
        cells=_CELLS,
        held_out=_HELD_OUT,
        candidates=(1, 3, 10, 30),
        options=dict(temperature=0.07),
        **more,
    )


def head(size: tuple[int, int], classes: int) -> dict[str, Any]:
    """A light convolutional head on images scaled to `size` (height, width); two learning rates to choose from."""
    return dict(
        kind="head",
        size=size,
        classes=classes,
        hidden=128,
        batch=16,
        iterations=300,
        weight_decay=0.0001,
        held_out=_HELD_OUT,
        candidates=(0.001, 0.004),
    )


def clusters(size: tuple[int, int], classes: int, clusters: int, naming: str, **more: Any) -> dict[str, Any]:
    """k-means of cells of images scaled to `size` (height, width); `naming` is a rule of `ClusterPlan`.

    `more` is as in `knn`.
    """
    return dict(
        kind="clusters",
        size=size,
        classes=classes,
        cells=_CELLS,
        clusters=clusters,
        naming=naming,
        dimensions=50,
        iterations=100,
        runs=5,
        **more,
    )


def foreground(size: tuple[int, int]) -> dict[str, Any]:
    """Five clusters of the cells of each image, scaled to `size` (height, width)."""
    return dict(kind="foreground", size=size, clusters=5, iterations=50)


def segments(size: tuple[int, int], classes: int) -> dict[str, Any]:
    """One segment of each image, scaled to `size` (height, width), found as by `foreground`."""
    return foreground(size) | dict(kind="segments", classes=classes)


def retrieval(size: tuple[int, int], classes: int, published: bool) -> dict[str, Any]:
    """Retrieval from a memory of cells of images scaled to `size` (height, width), as `published` or corrected."""
    return dict(
        kind="retrieval",
        size=size,
        classes=classes,
        memory=20_480,
        epochs=1,
        neighbors=30,
        temperature=0.02,
        published=published,
    )


def rank(size: tuple[int, int]) -> dict[str, Any]:
    """RankMe of the cells of images scaled to `size` (height, width)."""
    return dict(kind="rank", size=size)


def lidar(size: tuple[int, int]) -> dict[str, Any]:
    """LiDAR of augmented images of `size` (height, width)."""
    return dict(kind="lidar", size=size, views=8, ridge=0.0001)


def image_linear(**more: Any) -> dict[str, Any]:
    """Multinomial logistic regression of whole images; `more` are further fields, e.g. `labels` or `tail`."""
    return dict(
        kind="image_linear",
        side=224,
        view="crop",
        pooling="mean",
        held_out=_HELD_OUT,
        held_out_most=50_000,
        candidates=(0.00003, 0.0003, 0.003, 0.03, 0.3),
        options=dict(iterations=60),
        **more,
    )


def image_knn() -> dict[str, Any]:
    """Vote of the nearest training images; the four counts that the literature reports."""
    return dict(
        kind="image_knn",
        side=224,
        view="crop",
        pooling="mean",
        held_out=_HELD_OUT,
        held_out_most=50_000,
        candidates=(10, 20, 100, 200),
        options=dict(temperature=0.07),
    )


_SVM_COSTS = (1.0, 10.0, 100.0, *(0.5**power for power in range(4, 20)))


def svm() -> dict[str, Any]:
    """Support vector machines with the costs and folds of Goyal et al. (ICCV 2019)."""
    return dict(kind="svm", side=224, view="whole", pooling="windows", costs=_SVM_COSTS, folds=3, precision="envelope")


def svm_virtex() -> dict[str, Any]:
    """Support vector machines as in VirTex and CYBORGS."""
    return dict(
        kind="svm", side=224, view="crop", pooling="mean", costs=(0.01, 0.1, 1.0, 10.0), folds=3, precision="steps"
    )


def low_shot(
    published: bool,
    shots: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 96),
    costs: tuple[float, ...] = _SVM_COSTS,
) -> dict[str, Any]:
    """Support vector machines of few images (`shots`) of each class, with costs chosen as `published` or corrected."""
    return dict(
        kind="low_shot",
        side=224,
        view="whole",
        pooling="windows",
        costs=costs,
        shots=shots,
        negatives=19,
        samples=5,
        precision="envelope",
        published=published,
    )


def propagation(
    rules: str, neighbors: int, context: int, radius: int, temperature: float, **more: Any
) -> dict[str, Any]:
    """Masks of a first frame, carried to the others by the `neighbors` most similar cells; `rules` are crw or dino.

    `more` may be `side`, to which frames are scaled.
    """
    return dict(
        kind="propagation",
        rules=rules,
        neighbors=neighbors,
        context=context,
        radius=radius,
        temperature=temperature,
        **more,
    )
