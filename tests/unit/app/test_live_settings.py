"""The configuration file is read again when it changes."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from skerry.api.config.cloud import CloudConfig
from skerry.app import cloud
from skerry.app.live_settings import LiveSettings
from skerry.base.aio.supervise import Supervisor
from skerry.testing.clock import VirtualClock

HEAD = "apiVersion: config.skerry.dev/v1alpha1\nkind: CloudConfig\n"


async def test_new_addresses_are_told_and_a_broken_file_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file, clock = tmp_path / "cloud.yaml", VirtualClock()
    file.write_text(HEAD + "advertise: [a]\n")
    told: list[CloudConfig] = []

    def load() -> CloudConfig:
        return cloud.load_config(file, {})

    settings = LiveSettings(file, load)
    settings.on_change(told.append)
    async with Supervisor("test", clock=clock) as supervisor:
        supervisor.keep("settings", lambda: settings.run(load(), clock))
        await clock.advance(5)
        assert told == []
        file.write_text(HEAD + "advertise: [a, b.example]\n")
        await clock.advance(5)
        assert [config.advertise for config in told] == [("a", "b.example")]
        file.write_text(HEAD + "advertise: {}\nnonsense: 1\n")
        await clock.advance(5)
        assert len(told) == 1
        file.write_text(HEAD + "advertise: [a, b.example]\nlisten: 127.0.0.1\n")
        caplog.set_level(logging.WARNING)
        await clock.advance(5)
    ours = [record for record in caplog.records if "fields" in record.__dict__]
    events = {record.getMessage(): record.__dict__["fields"] for record in ours}
    assert events["settings.need_a_restart"]["settings"] == ["listen"]
