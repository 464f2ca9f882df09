"""Bad input is answered in one line that names field, value and what is allowed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from saetrack.chain.config import load_config
from saetrack.chain.odd import odd_parameters
from saetrack.chain.presets import load_preset, preset_names
from saetrack.utils.errors import UserError
from saetrack.utils.settings import load_settings
from tests.support.nano import NANO_TRACK


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"layers": [-1]}, r"layers.0=-1: input should be greater than or equal to 0"),
        ({"layers": []}, r"layers: missing; a track needs a layer, or a hook such as mlp_out.4"),
        (
            {"hooks": ["mlp.1"]},
            r"hooks.0='mlp.1': must be a kind and a layer, .* kinds: resid_pre,",
        ),
        ({"hooks": ["mlp_out.0"] * 2}, r"hooks=\[mlp_out.0, mlp_out.0\]: each hook once"),
        ({"hooks": ["resid_pre.1"]}, r"layers=\[1\], hooks=\[resid_pre.1\]: each hook once"),
        ({"layers": [1, 0]}, r"layers=\[1, 0\]: must ascend, each layer once"),
        ({"layers": [*range(1_000), 5]}, r"layers=\[0, 1, 2.{60,70}\.\.\.: must ascend"),
        (
            {"evaluation": {"ce_tokens": 4_096}},
            r"evaluation.ce_tokens=4096: must be at most corpus.held_out_tokens=2048",
        ),
        (
            {
                "schedule": [
                    {"first": 0, "last": None, "tokens": 1},
                    {"first": 1, "last": 1, "tokens": 1},
                ]
            },
            r"schedule: only the last piece may go on without end",
        ),
        ({"d_sae": 0}, r"d_sae=0: input should be greater than 0"),
        ({"d_sae": "many"}, r"d_sae='many': input should be a valid integer"),
        (
            {"schedule": [{"first": 0, "last": 1, "tokens": -5}]},
            r"schedule.0.tokens=-5: input should be greater than 0",
        ),
        (
            {
                "schedule": [
                    {"first": 3, "last": 3, "tokens": 5},
                    {"first": 1, "last": 1, "tokens": 5},
                    {"first": 2, "last": 2, "tokens": 5},
                ]
            },
            r"schedule: checkpoint 2 comes after 1; must ascend throughout, or descend throughout",
        ),
        (
            {"schedule": [{"first": 0, "last": 4, "stride": 3, "tokens": 5}]},
            r"schedule.0=.*last=4 must be first=0 plus or minus a multiple of stride=3",
        ),
        ({"schedule": []}, r"schedule=\[\]: must have 1 or more in its list$"),
        ({"layers": 1}, r"layers=1: must be a list, such as \[1, 2\]$"),
        ({"corpus": 1}, r"corpus=1: must hold fields, each with a value$"),
        (
            {"sae": {"l1_coefficient": -1}},
            r"sae=.*: l1_coefficient=-1.* must be 0 or more",
        ),
        ({"sae": {"reconstruction": "mae"}}, r"sae.reconstruction='mae': .*'mse'"),
        (
            {"first_link": {"learning_rate": 0}},
            r"first_link=.*learning_rate=0.* must be more than 0",
        ),
        ({"residual": "centered"}, r"residual='centered': .*'centred' or 'raw'"),
        ({"buffer_tokens": 300}, r"buffer_tokens=300: must be at least twice batch_tokens=256"),
        ({"batchsize": 3}, r"batchsize=3: unknown name"),
        ({"seed": -1}, r"seed=-1: "),
    ],
)
def test_bad_parameters(change: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match=line) as caught:
        load_config({**NANO_TRACK, **change})
    assert "\n" not in str(caught.value)


def test_a_missing_parameter() -> None:
    with pytest.raises(UserError, match="layers: missing"):
        load_config({name: value for name, value in NANO_TRACK.items() if name != "layers"})


@pytest.mark.parametrize(
    ("variable", "value", "line"),
    [
        ("SAETRACK_DEVICE", "tpu", r"SAETRACK_DEVICE='tpu': .*'auto', 'cpu' or 'cuda'"),
        ("SAETRACK_TRACKING_URI", "mlruns", r"SAETRACK_TRACKING_URI='mlruns': must be an address"),
        ("SAETRACK_TRACKING_URI", "http://", r"SAETRACK_TRACKING_URI='http://': names no host"),
        (
            "SAETRACK_CACHE",
            "/tmp/x",
            r"SAETRACK_CACHE='/tmp/x': unknown setting; did you mean SAETRACK_CACHE_DIR",
        ),
        ("SAETRACK_CACHE_DIR", "/proc/none", r"SAETRACK_CACHE_DIR=/proc/none: cannot be made"),
    ],
)
def test_bad_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str, value: str, line: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(variable, value)
    with pytest.raises(UserError, match=line) as caught:
        load_settings()
    assert "\n" not in str(caught.value)


def test_settings_are_read_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text(f"SAETRACK_CACHE_DIR={tmp_path}/here\nSAETRACK_DEVICE=cpu\n")
    settings = load_settings()
    assert settings.cache_dir == tmp_path / "here"
    assert settings.device == "cpu"
    (tmp_path / ".env").write_text("SAETRACK_DEVISE=cpu\n")
    with pytest.raises(UserError, match=r"^SAETRACK_DEVISE='cpu': unknown name"):
        load_settings()


def test_links_are_counted_before_the_hub_has_listed_its_checkpoints() -> None:
    schedule = [{"first": 0, "last": 6, "stride": 2, "tokens": 1_000}]
    config = load_config({**NANO_TRACK, "model": "olmo-1b", "schedule": schedule})
    assert config.planned == [(index, 1_000) for index in (0, 2, 4, 6)]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"batchsize": 3}, r"batchsize=3: unknown name; did you mean batch_tokens\?$"),
        ({"qqq": 1}, r"qqq=1: unknown name; known: batch_tokens, buffer_tokens, corpus, d_sae, "),
        ({"corpus": {"datset": "x"}}, r"corpus.datset='x': unknown name; did you mean dataset\?$"),
        (
            {"first_link": {"lerning_rate": 1}},
            r"first_link.lerning_rate=1: unknown name; did you mean learning_rate\?",
        ),
        (
            {"schedule": [{"frist": 1, "last": 1, "tokens": 1}]},
            r"schedule.0.frist=1: unknown name; did you mean first\?",
        ),
        (
            {"corpus": {"exclude_first_positions": 128}},
            r"corpus.exclude_first_positions=128: must be less than corpus.context_size=128",
        ),
    ],
)
def test_an_unknown_name_is_answered_with_those_like_it(change: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match=line):
        load_config({**NANO_TRACK, **change})


def test_parameters_without_the_effect_that_they_seem_to_have_are_named() -> None:
    assert odd_parameters(load_config(NANO_TRACK)) == []
    short = load_config(
        {
            **NANO_TRACK,
            "first_link": {"learning_rate": 1e-3, "warmup_steps": 5_000},
            "schedule": [{"first": 0, "last": 4, "tokens": 200}],
        }
    )
    assert [line.partition(":")[0] for line in odd_parameters(short)] == [
        "first_link.warmup_steps=5,000",
        "later_links.warmup_steps=3",
        "schedule",
    ]
    assert "a link of 200 tokens has 1 step of batch_tokens=256" in odd_parameters(short)[0]
    assert "tokens=200 are less than batch_tokens=256" in odd_parameters(short)[2]
    rereading = load_config({**NANO_TRACK, "schedule": [{"first": 0, "last": 4, "tokens": 40_960}]})
    assert odd_parameters(rereading) == [
        "schedule: a link of 40,960 tokens reads the text of corpus.train_tokens=16,384 2.5 times"
    ]
    for preset in preset_names("track"):
        assert odd_parameters(load_config(load_preset("track", preset))) == []


def piece(**changes: Any) -> dict[str, Any]:
    return {"schedule": [{"first": 0, "last": 2, "tokens": 5, **changes}]}


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (piece(tokens=-5), "schedule.0.tokens=-5: input should be greater than 0"),
        (piece(stride=0), "schedule.0.stride=0: input should be greater than 0"),
        (
            piece(tokens="1e5"),
            (
                "schedule.0.tokens='1e5': input should be a valid integer, written in digits, such "
                "as 100000"
            ),
        ),
        (
            piece(tokens={"max": 9, "until": "plateu"}),
            (
                "schedule.0.tokens={'max': 9, 'until': 'plateu'}: until='plateu': input should be "
                "'plateau'"
            ),
        ),
        (
            piece(tokens={"until": "plateau"}),
            "schedule.0.tokens={'until': 'plateau'}: max: missing",
        ),
        (
            piece(tokens={"max": 9, "until": "plateau", "within": -1}),
            (
                "schedule.0.tokens={'max': 9, 'until': 'plateau', 'within': -1}: within=-1: input "
                "should be greater than 0"
            ),
        ),
        (
            {"corpus": {"exclude_tokens": [[1]]}},
            "corpus.exclude_tokens.0=[1]: input should be a valid integer",
        ),
        (
            {"schedule": {"first": 0, "last": 2, "tokens": 5}},
            (
                "schedule={'first': 0, 'last': 2, 'tokens': 5}: must be a list of pieces, such as "
                "[{first: 0, last: 9, tokens: 60000}]"
            ),
        ),
        (
            piece(stride=0) | {"seed": -1},
            "schedule.0.stride=0: input should be greater than 0 (also wrong: seed)",
        ),
        (
            piece(stride=0, tokens=0),
            "schedule.0.stride=0: input should be greater than 0 (also wrong: schedule.0.tokens)",
        ),
    ],
)
def test_each_mistake_is_counted_once(change: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError) as caught:
        load_config({**NANO_TRACK, **change})
    assert str(caught.value) == line
