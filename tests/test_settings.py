"""Settings come from the environment that is passed in, and every invalid one is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from orchestrator.errors import InvalidError
from orchestrator.settings import Settings, default_slots, read_settings
from tests.settings_table import PAGE, updated


def test_an_empty_environment_gives_the_defaults() -> None:
    settings = read_settings({})
    assert settings.slots == default_slots() >= 2
    assert settings.claude is None
    assert settings.max_retries is None
    assert settings.rehearsal == ""
    assert settings.stall_seconds < settings.silence_seconds


def test_the_environment_that_is_handed_over_counts_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_MAX_CONCURRENT", "7")
    monkeypatch.setenv("SLOTS", "8")
    assert read_settings({"AGENT_MAX_CONCURRENT": "3", "slots": "9", "SLOTS": "9"}).slots == 3
    assert read_settings({}).slots == default_slots()


def test_an_empty_variable_counts_as_not_set() -> None:
    assert read_settings({"AGENT_MAX_CONCURRENT": "", "CLAUDE_CODE_PATH": ""}) == read_settings({})


def test_every_setting_is_read() -> None:
    settings = read_settings(
        {
            "CLAUDE_CODE_PATH": "/x/claude",
            "FLEET_REST_SECONDS": "0",
            "FLEET_STALL_SECONDS": "0.5",
            "FLEET_SILENCE_SECONDS": "9",
            "FLEET_MAX_RETRIES": "0",
            "FLEET_REHEARSAL": "demo.yaml",
        }
    )
    assert settings.claude == Path("/x/claude")
    assert (settings.rest_seconds, settings.stall_seconds, settings.silence_seconds) == (0, 0.5, 9)
    assert (settings.max_retries, settings.rehearsal) == (0, "demo.yaml")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AGENT_MAX_CONCURRENT", "0"),
        ("AGENT_MAX_CONCURRENT", "-1"),
        ("AGENT_MAX_CONCURRENT", "1001"),
        ("AGENT_MAX_CONCURRENT", "many"),
        ("AGENT_MAX_CONCURRENT", "2.5"),
        ("FLEET_REST_SECONDS", "-1"),
        ("FLEET_REST_SECONDS", "nan"),
        ("FLEET_REST_SECONDS", "inf"),
        ("FLEET_STALL_SECONDS", "0"),
        ("FLEET_SILENCE_SECONDS", "1e9"),
        ("FLEET_MAX_RETRIES", "-1"),
        ("FLEET_MAX_RETRIES", "101"),
        *(("FLEET_IDLE_EXIT_SECONDS", value) for value in ("soon", "-1", "nan", "inf")),
        ("FLEET_LOG_LEVEL", "loud"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_wrong(name: str, value: str) -> None:
    with pytest.raises(InvalidError) as error:
        read_settings({name: value})
    assert f"{name}={value!r}" in error.value.message
    assert "environment" in error.value.hint


def test_all_wrong_values_are_named_at_once() -> None:
    with pytest.raises(InvalidError) as error:
        read_settings({"AGENT_MAX_CONCURRENT": "x", "FLEET_REST_SECONDS": "y"})
    assert "AGENT_MAX_CONCURRENT" in error.value.message
    assert "FLEET_REST_SECONDS" in error.value.message


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        read_settings({}).slots = 5  # pyright: ignore[reportAttributeAccessIssue] - that is what must fail


@pytest.mark.parametrize(
    ("env", "seconds"),
    [
        ({}, 900),
        ({"FLEET_HTTP_PORT": "0"}, 0),
        ({"FLEET_IDLE_EXIT_SECONDS": "0"}, 0),
        ({"FLEET_HTTP_PORT": "0", "FLEET_IDLE_EXIT_SECONDS": "70"}, 70),
    ],
)
def test_a_daemon_with_a_port_exits_when_idle_only_if_told_to(env: dict[str, str], seconds: float) -> None:
    assert read_settings(env).idle_seconds == seconds


def test_the_reference_has_the_table_of_these_settings() -> None:
    assert PAGE.read_text() == updated(PAGE.read_text()), "write it with: make docs"


def test_every_setting_says_what_it_means_and_what_applies_without_it() -> None:
    for name, field in Settings.model_fields.items():
        assert field.alias, name
        assert field.description, name
        assert isinstance(field.json_schema_extra, dict) or field.get_default(call_default_factory=True), name
