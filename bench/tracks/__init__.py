"""The tracks: which protocols are run together, with which seeds and by which rules."""

from bench.errors import BenchError
from bench.tracks.mini import MINI
from bench.tracks.track import Track

__all__ = ["TRACKS", "Track", "find_track"]

TRACKS: tuple[Track, ...] = (MINI,)


def find_track(track_id: str) -> Track:
    """The track called `track_id`.

    Raises:
        BenchError: there is none; the message names those that exist.
    """
    for track in TRACKS:
        if track.id == track_id:
            return track
    raise BenchError(f"there is no track {track_id!r}: choose one of {', '.join(track.id for track in TRACKS)}")
