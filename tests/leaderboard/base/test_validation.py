"""The first problem as one line."""

import pytest
from pydantic import BaseModel, Field, ValidationError, model_validator

from leaderboard.base.validation import first_problem


class Inner(BaseModel):
    value: int = Field(le=10)


class Outer(BaseModel):
    inner: list[Inner]
    name: str

    @model_validator(mode="after")
    def _named(self):
        if self.name == "bad":
            raise ValueError("choose another name")
        return self


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"inner": [{"value": 11}], "name": "x"}, "inner.0.value: Input should be less than or equal to 10 (it is 11)"),
        ({"inner": []}, "name: Field required"),
        ({"inner": {}, "name": "x"}, "inner: Input should be a valid list"),
        ({"inner": [], "name": "bad"}, "choose another name"),
        ({"inner": [{"value": "a" * 100}], "name": "x"}, f"integer (it is '{'a' * 59}...)"),
        ({"inner": [{"value": 10**5000}], "name": "x"}, "(it is a number of more than 300 digits)"),
    ],
)
def test_first_problem(values, text):
    with pytest.raises(ValidationError) as raised:
        Outer.model_validate(values)
    found = first_problem(raised.value)
    assert text in found
    assert "\n" not in found
