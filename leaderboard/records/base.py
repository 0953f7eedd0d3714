"""What all records are made of: the base class and the types of their fields."""

from __future__ import annotations

import json
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION: Literal[2] = 2
MAX_BYTES = 1_000_000
"""Most bytes of a record's file; a result has about 3,000."""
_MAX_INT = 2**63 - 1
_NO_CONTROLS = r"^[^\u0000-\u0020\u007f-\u009f\u2028\u2029][^\u0000-\u001f\u007f-\u009f\u2028\u2029]*$"

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Key = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
"""The first 16 digits of a hash."""
Identifier = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,79}$")]
"""A name that is also a file name: letters, digits, dot, underscore, plus and minus."""
Line = Annotated[str, Field(max_length=200, pattern=_NO_CONTROLS)]
"""One line of text: not empty, no control characters or line separators, no space in front."""
Prose = Annotated[str, Field(max_length=1000, pattern=_NO_CONTROLS)]
"""A paragraph: a line of up to 1,000 characters."""
Count = Annotated[int, Field(ge=0, le=_MAX_INT)]
Positive = Annotated[int, Field(ge=1, le=_MAX_INT)]
Amount = Annotated[float, Field(ge=0, le=1e15, allow_inf_nan=False)]
"""A number of at least 0, and so small that sums and squares of it are finite: seconds, MiB, epochs."""
Percent = Annotated[float, Field(ge=0, le=100)]
Share = Annotated[float, Field(ge=0, le=1)]
PositiveShare = Annotated[float, Field(gt=0, le=1)]


class Record(BaseModel):
    """Base of all records: immutable, every field required, none unknown."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def to_json(self) -> str:
        """Readable JSON with a final newline; the same record always gives the same bytes."""
        return json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"
