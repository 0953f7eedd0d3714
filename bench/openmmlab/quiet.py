"""Hides known unimportant messages of the OpenMMLab libraries; everything unknown, and every error, is still shown."""

import contextlib
import io
import sys
import warnings
from collections.abc import Iterator

# Lines that the libraries print while they are imported.
PRINTED = ("Could not import OneDL",)

# Warnings (regular expressions for the start of the message) about which a user of densebench can do nothing.
WARNED = (
    r"faster_coco_eval is not installed",
    r"``MultiScaleDeformableAttention`` has been moved",
    r"``build_\w+`` would be deprecated soon",  # mmsegmentation 1.2 about itself
    r"Default ``avg_non_ignore`` is False",  # which the published protocols have
    r"When align_corners=True, the output would more aligned",  # whole images have any size
    r"indexing with dtype torch.uint8 is now deprecated",  # by the masks of a C4 detector in mmdet
    r"torch.meshgrid: in an upcoming release",  # by the cells of FCOS in mmdet
)


def ignore_known_warnings() -> None:
    """Add filters for the known warnings to those of the process."""
    for message in WARNED:
        warnings.filterwarnings("ignore", message=message)


@contextlib.contextmanager
def without_known_prints() -> Iterator[None]:
    """Drop the known lines from what is printed inside the block and print the rest when it ends."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            yield
    finally:
        for line in printed.getvalue().splitlines(keepends=True):
            if not line.startswith(PRINTED):
                sys.stdout.write(line)
