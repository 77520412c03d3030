"""Two emulators that want the same ports at the same moment."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from devhost import azurite as azurite_module
from devhost.azurite import Azurite

PROGRAM = Path(__file__).resolve().parents[2] / ".tools" / "node_modules" / ".bin" / "azurite"


def test_a_port_that_another_emulator_took_is_not_taken_for_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Azurite(tmp_path / "first", str(PROGRAM)) as first:
        state = {"pid": 0, "ports": list(first.ports), "owner": 0}
        (tmp_path / "second").mkdir()
        (tmp_path / "second" / "azurite-process.json").write_text(json.dumps(state))
        # Both looked before either listened: the ports seemed free.
        monkeypatch.setattr(azurite_module, "_answers", lambda port: False)
        with Azurite(tmp_path / "second", str(PROGRAM)) as second:
            assert not set(second.ports) & set(first.ports)
            assert second.alive
            assert first.alive
