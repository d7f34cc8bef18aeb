"""Configuration from TOML and --set: values, refusals, hashes and differences."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsv3data.contracts.config import config_hash, differences, from_dict, load_config, to_dict
from dsv3data.contracts.errors import BadConfig


@dataclass(frozen=True, kw_only=True)
class Inner:
    rate: float = 0.5
    names: tuple[str, ...] = ("a",)
    limit: int | None = None


@dataclass(frozen=True, kw_only=True)
class Outer:
    steps: int = 10
    label: str = "x"
    fast: bool = False
    mode: Literal["one", "two"] = "one"
    inner: Inner = field(default_factory=Inner)


@dataclass(frozen=True, kw_only=True)
class Kinds:
    text: str = "?"
    flag: bool = False
    number: float = 0.0
    items: tuple[str, ...] = ("z",)


@dataclass(frozen=True, kw_only=True)
class Needy:
    size: int


def written(folder: Path, text: str) -> Path:
    path = folder / "config.toml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(cls: type[Any], tree: dict[str, Any]) -> BadConfig:
    with pytest.raises(BadConfig) as caught:
        from_dict(cls, tree)
    return caught.value


def test_defaults_without_file() -> None:
    assert load_config(Outer) == Outer()


def test_every_kind_of_field_from_toml(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        'steps = 3\nlabel = "é"\nfast = true\nmode = "two"\n'
        '[inner]\nrate = 2\nnames = ["b", "c"]\nlimit = 7\n',
    )
    expected = Inner(rate=2.0, names=("b", "c"), limit=7)
    config = load_config(Outer, path)
    assert config == Outer(steps=3, label="é", fast=True, mode="two", inner=expected)
    assert type(config.inner.rate) is float


def test_overrides_win_over_the_file_and_later_ones_over_earlier(tmp_path: Path) -> None:
    path = written(tmp_path, "steps = 3\n[inner]\nrate = 0.25\n")
    config = load_config(
        Outer,
        path,
        ["steps=4", "inner.rate=1e-4", "inner . names = ['q']", "steps=5", "label=word"],
    )
    assert config.steps == 5
    assert config.inner == Inner(rate=1e-4, names=("q",))
    assert config.label == "word"


def test_an_override_of_a_section_replaces_it_whole(tmp_path: Path) -> None:
    path = written(tmp_path, "[inner]\nrate = 0.25\nlimit = 3\n")
    assert load_config(Outer, path, ["inner={rate = 0.75}"]).inner == Inner(rate=0.75)


@pytest.mark.parametrize(
    ("override", "name", "value"),
    [
        ("flag=true", "flag", True),
        ("number=1e3", "number", 1000.0),
        ("items=[]", "items", ()),
        ('text="5"', "text", "5"),
        ("text=five", "text", "five"),
        ("text=", "text", ""),
        ("text=a = b", "text", "a = b"),
    ],
)
def test_override_values_are_toml_and_bare_words_are_text(
    override: str, name: str, value: object
) -> None:
    assert getattr(load_config(Kinds, None, [override]), name) == value


@pytest.mark.parametrize(
    ("override", "fragment"),
    [
        ("steps", "must look like section.key=value"),
        ("=3", "must look like section.key=value"),
        ("inner..rate=1", "must look like section.key=value"),
        ("stepps=3", "unknown key 'stepps'"),
        ("inner.rat=3", "unknown key 'inner.rat'"),
        ("steps=three", "steps must be of type int, not 'three'"),
        ("inner=3", "inner must be a section, not 3"),
    ],
)
def test_a_wrong_override_is_named(override: str, fragment: str) -> None:
    with pytest.raises(BadConfig) as caught:
        load_config(Outer, None, [override])
    assert fragment in str(caught.value)
    assert caught.value.fix


def test_a_value_is_no_section() -> None:
    with pytest.raises(BadConfig, match="'steps' is a value, not a section"):
        load_config(Outer, None, ["steps=3", "steps.more=4"])


def test_an_override_carries_one_value() -> None:
    with pytest.raises(BadConfig, match=r"steps must be of type int, not '1\\nlabel = 2'"):
        load_config(Outer, None, ["steps=1\nlabel = 2"])


def test_the_nearest_key_is_named() -> None:
    assert "did you mean 'steps'?" in str(refusal(Outer, {"stps": 1}))
    assert "did you mean 'inner.rate'?" in str(refusal(Outer, {"inner": {"rates": 1.0}}))


def test_a_key_of_a_section_is_found_without_it() -> None:
    for key in ("rate", "raate"):
        assert "did you mean 'inner.rate'?" in str(refusal(Outer, {key: 1.0}))


def test_a_refusal_says_whether_the_file_or_an_override_gave_the_key(tmp_path: Path) -> None:
    path = written(tmp_path, "label = 3\n")
    for overrides, where in (
        (["label=y", "steps=1.5"], "--set steps=1.5"),
        (["label=y", "inner.rate=fast"], "--set inner.rate=fast"),
        (["label=y", "stps=3"], "--set stps=3"),
        (["steps=3"], str(path)),
    ):
        with pytest.raises(BadConfig) as caught:
            load_config(Outer, path, overrides)
        assert caught.value.where == where


def test_without_a_near_key_all_known_ones_are_listed() -> None:
    assert "known keys: fast, inner, label, mode, steps" in str(refusal(Outer, {"qqqqqq": 1}))


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"steps": 1.0}, "steps must be of type int, not 1.0"),
        ({"steps": True}, "steps must be of type int, not True"),
        ({"label": 1}, "label must be of type str, not 1"),
        ({"fast": 1}, "fast must be of type bool, not 1"),
        ({"fast": "true"}, "fast must be of type bool, not 'true'"),
        ({"mode": "three"}, "mode must be one of 'one', 'two', not 'three'"),
        ({"mode": 1}, "mode must be one of"),
        ({"inner": 1}, "inner must be a section, not 1"),
        ({"inner": [1]}, "inner must be a section, not [1]"),
        ({"inner": {"rate": "1"}}, "inner.rate must be of type float, not '1'"),
        ({"inner": {"rate": True}}, "inner.rate must be of type float, not True"),
        ({"inner": {"names": "ab"}}, "inner.names must be a list, not 'ab'"),
        ({"inner": {"names": ["a", 1]}}, "inner.names must be of type str, not 1"),
        ({"inner": {"limit": "3"}}, "inner.limit must be of type int, not '3'"),
        ({"steps": {"a": 1}}, "steps must be of type int"),
    ],
)
def test_wrong_types_are_named(tree: dict[str, Any], message: str) -> None:
    assert message in str(refusal(Outer, tree))


def test_a_required_key_is_asked_for() -> None:
    with pytest.raises(BadConfig, match="'size'") as caught:
        load_config(Needy)
    assert "give the missing key" in caught.value.fix


@pytest.mark.parametrize(
    "text",
    [
        "steps: 3\ninner:\n  rate: 0.5\n",
        '{"steps": 3}',
        "steps = 3\nsteps = 4\n",
        "[inner]\nrate = 1.0\n[inner]\nlimit = 1\n",
        "steps = " + "[" * 100_000 + "]" * 100_000,
    ],
    ids=["yaml", "json", "key twice", "section twice", "deep"],
)
def test_a_file_that_is_not_toml_is_refused(tmp_path: Path, text: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(BadConfig, match="the config file is not TOML") as caught:
        load_config(Outer, path)
    assert caught.value.where == str(path)
    assert "YAML and JSON are not read" in caught.value.fix


def test_bytes_that_are_not_utf8_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(b'label = "\xff"\n')
    with pytest.raises(BadConfig, match="the config file is not TOML"):
        load_config(Outer, path)


@pytest.mark.parametrize("text", ["[" * 100_000, "[" * 100_000 + "]" * 100_000])
def test_a_deep_override_is_refused(text: str) -> None:
    with pytest.raises(BadConfig, match="steps must be of type int"):
        load_config(Outer, None, [f"steps={text}"])


@pytest.mark.parametrize("name", ["absent.toml", "."])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadConfig, match="the config file cannot be read") as caught:
        load_config(Outer, tmp_path / name)
    assert caught.value.where == str(tmp_path / name)


@given(
    st.builds(
        Outer,
        steps=st.integers(),
        label=st.text(),
        fast=st.booleans(),
        mode=st.sampled_from(["one", "two"]),
        inner=st.builds(
            Inner,
            rate=st.floats(allow_nan=False),
            names=st.lists(st.text()).map(tuple),
            limit=st.integers(),
        ),
    )
)
def test_plain_values_give_the_config_back(config: Outer) -> None:
    assert from_dict(Outer, to_dict(config)) == config
    assert config_hash(config) == config_hash(to_dict(config))


def test_the_hash_is_the_same_in_another_process_and_another_for_each_value() -> None:
    code = (
        "from dsv3data.packing.config import PackConfig\n"
        "from dsv3data.contracts.config import config_hash\n"
        "import sys; sys.stdout.write(config_hash(PackConfig()))"
    )
    other = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONHASHSEED": "7", "PATH": ""},
    )
    from dsv3data.packing.config import PackConfig

    assert other.stdout == config_hash(PackConfig())
    hashes = {config_hash(config) for config in (Outer(), Outer(steps=11), Outer(label="y"))}
    assert len(hashes) == 3


def test_the_hash_does_not_depend_on_the_order_of_keys() -> None:
    assert config_hash({"a": 1, "b": {"c": 2, "d": 3}}) == config_hash(
        {"b": {"d": 3, "c": 2}, "a": 1}
    )


def test_differences_name_each_changed_value() -> None:
    old = {"pack": {"context": 2048, "seed": 0}, "gone": 1, "same": [1]}
    new = {"pack": {"context": 4096, "seed": 0}, "here": 2, "same": [1]}
    assert differences(old, new) == [
        "gone: 1 → (absent)",
        "here: (absent) → 2",
        "pack.context: 2048 → 4096",
    ]
    assert differences(new, new) == []
    assert differences({"a": {"b": 1}}, {"a": 1}) == ["a: {'b': 1} → 1"]
