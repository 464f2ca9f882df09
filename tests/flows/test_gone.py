"""A run whose server dies meanwhile ends in order: the work counts, not the record of it."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import State

from flows import gone
from flows.logs import state_in_one_line
from saetrack.utils.errors import UserError


@pytest.mark.usefixtures("harness")
@pytest.mark.parametrize("ends_well", [True, False])
def test_a_run_ends_as_its_work_did(
    ends_well: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(gone, "PATIENCE_S", 0.0)

    def refuse(*_: Any, **__: Any) -> Any:
        raise httpx.ConnectError("Connection refused")

    @flow(name="dies", validate_parameters=False)
    def dies() -> State:
        def work() -> str:
            monkeypatch.setattr(httpx, "get", refuse)
            monkeypatch.setattr(SyncPrefectClient, "set_flow_run_state", refuse)
            if not ends_well:
                raise UserError("layers=[9]: too many")
            return "4 links trained"

        return state_in_one_line(work)

    state: State[Any] = dies(return_state=True)
    assert (state.is_completed(), state.message) == (
        ends_well,
        "4 links trained" if ends_well else "layers=[9]: too many",
    )
    assert "its record of this run is incomplete" in caplog.text
