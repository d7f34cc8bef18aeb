"""PackConfig refuses values that cannot be packed with, in four lines."""

from __future__ import annotations

from typing import Any

import pytest

from dsv3data.contracts.config import from_dict
from dsv3data.contracts.errors import BadConfig
from dsv3data.packing.config import PackConfig


def test_the_limits_themselves_are_allowed() -> None:
    for values in ({"context": 16}, {"context": 1_048_576}, {"fim_rate": 0.0}, {"fim_rate": 1.0}):
        assert from_dict(PackConfig, values) == PackConfig(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"context": 15}, "context must be from 16 to 1048576 ids, not 15"),
        ({"context": 1_048_577}, "context must be from 16 to 1048576 ids, not 1048577"),
        ({"fim_rate": -0.1}, "fim_rate must be a share of the documents from 0 to 1, not -0.1"),
        ({"fim_rate": float("nan")}, "fim_rate must be a share .* not nan"),
        ({"fim_mode": "pms"}, "fim_mode must be 'psm', 'spm' or 'mixed', not 'pms'"),
        ({"fim_domain_rates": ("code",)}, "fim_domain_rates must be domain=share"),
        ({"fim_domain_rates": ("=0.5",)}, "fim_domain_rates must be domain=share"),
        ({"fim_domain_rates": ("code=1.5",)}, "fim_domain_rates must be domain=share"),
        ({"fim_domain_rates": ("a=0.5", "a=0.1")}, "fim_domain_rates must be of different domains"),
        ({"debias_rate": float("nan")}, "debias_rate must be a share of the tokens"),
        ({"epoch": -1}, "epoch must be 0 or more"),
        ({"fim_min_codepoints": 0}, "fim_min_codepoints must be 1 code point or more, not 0"),
        ({"partition_tokens": 4095}, "partition_tokens must be at least one row of 4096 ids"),
    ],
)
def test_a_bad_value_is_refused(values: dict[str, Any], text: str) -> None:
    with pytest.raises(BadConfig, match=text) as caught:
        PackConfig(**values)
    (name,) = values
    assert caught.value.where == f"pack.{name}"
    assert caught.value.effect == "nothing was packed"
    assert f"--set {name}=" in caught.value.fix
