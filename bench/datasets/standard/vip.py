"""VIP (Zhou et al., ACM MM 2018): human parts in video, 19 of them and the background.

Layout: the evaluation of UVC (Li et al., NeurIPS 2019) and of mmaction's branches for correspondence, which read
`VIP_Fine/{Images,Annotations/Category_ids}/VIDEO` and `VIP_Fine/lists/val_videos.txt`. Numbers of videos: the data
set's page (404, of which 50 are val). Nobody documents numbers of frames, nor a list of train that a protocol reads:
only val is expected. The archive lies on Google Drive, which allows no unattended download.
"""

from __future__ import annotations

from typing import Final

from bench.datasets.standard.table import Archive, Part, Standard

_ZIP: Final = "VIP_Fine.zip"
_VAL: Final = "VIP/VIP_Fine/lists/val_videos.txt"

VIP: Final = Standard(
    name="vip",
    title="VIP (human parts in video)",
    archives=(Archive(_ZIP, "VIP"),),
    parts=(
        Part("list val", _VAL, 50, "list", "val", archive=_ZIP),
        Part("frames of val", "VIP/VIP_Fine/Images/{}/*.jpg", None, "images", "val", _VAL, _ZIP),
        Part("masks of val", "VIP/VIP_Fine/Annotations/Category_ids/{}/*.png", None, "masks", "val", _VAL, _ZIP),
    ),
    terms="http://sysu-hcp.net/lip/",
    by_hand="http://sysu-hcp.net/lip/ (track of video multi-person human parsing: VIP_Fine)",
)
