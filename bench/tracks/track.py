"""What a track is."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Track:
    """Protocols that are run together and whose results stand in one table."""

    id: str
    purpose: str
    protocols: tuple[str, ...]
    """Protocol ids: `<track>_<name>` is the file `transfer_configs/<track>/<name>.py`."""
    seeds: tuple[int, ...]
    """Fine-tuning seeds; `submit --seeds K` runs the first K."""
    rules: tuple[str, ...]
    """What every row of the track has in common, a sentence each."""
