"""Encryption as an application is told of it: in code, by the environment, on the command line."""

from __future__ import annotations

import asyncio
import base64
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner, Result

from floxide_amqp import Compression, ConfigurationError, Encryption, Floxide, MissingKeyError, Workflow, node
from floxide_amqp.apps.cli.main import app as command_line
from floxide_amqp.apps.settings import Settings, read_settings

SECRET = "correct horse battery staple"
OLD, NEW = (base64.b64encode(bytes([n] * 32)).decode() for n in (1, 2))


@node
async def echo(text: str) -> str:
    if text.startswith("no"):
        raise ValueError(f"I will not say {text}")
    return text


class Echo(Workflow[str, str]):
    start = echo


Command = Callable[..., Result]


@pytest.fixture
def floxide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command, on an application that has no encryption of its own."""
    module = ModuleType("echo_shop")
    module.app = Floxide(store=f"sqlite:///{tmp_path}/runs.db", workflows=[Echo])  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "echo_shop", module)

    def call(name: str, *words: str, keys: str = "") -> Result:
        environment = {"FLOXIDE_ENCRYPTION_KEYS": keys}
        return CliRunner().invoke(command_line, [name, "echo_shop:app", *words], env=environment)

    return call


def on_disk(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir())


@pytest.mark.parametrize(("keys", "is_plain"), [("", True), (f"new:{NEW}", False)])
def test_keys_in_the_environment_encrypt_what_the_command_stores(
    floxide: Command, tmp_path: Path, keys: str, is_plain: bool
) -> None:
    done = floxide("run", "--input", f'"{SECRET}"', "--run-id", "run", keys=keys)
    assert (done.exit_code, SECRET in done.stdout) == (0, True)
    assert (SECRET.encode() in on_disk(tmp_path)) is is_plain


def test_without_keys_the_command_shows_where_a_run_is_and_which_key_its_texts_need(floxide: Command) -> None:
    keys = f"new:{NEW}"
    assert floxide("run", "--input", f'"no {SECRET}"', "--run-id", "bad", keys=keys).exit_code == 1
    assert SECRET in floxide("errors", "bad", keys=keys).stdout
    blind = floxide("errors", "bad")
    assert blind.exit_code == 0
    assert "key 'new'" in " ".join(blind.stdout.split())
    assert SECRET not in blind.stdout
    assert "failed" in floxide("list").stdout


def test_starting_again_without_the_key_says_which_one_is_missing(floxide: Command) -> None:
    floxide("run", "--input", '"a"', "--run-id", "run", keys=f"old:{OLD}")
    assert floxide("start", "--input", '"a"', "--run-id", "run", keys=f"new:{NEW},old:{OLD}").exit_code == 0
    refused = floxide("start", "--input", '"a"', "--run-id", "run", keys=f"new:{NEW}")
    assert refused.exit_code == 3
    assert "key 'old', which this process does not have; it has 'new'" in " ".join(refused.stderr.split())


def test_wrong_keys_in_the_environment_are_refused_without_showing_them(floxide: Command) -> None:
    refused = floxide("list", keys=f"{NEW}:new")
    assert refused.exit_code == 3
    assert NEW[:10] not in refused.stderr


def test_keys_are_read_from_the_environment_and_not_shown() -> None:
    settings = read_settings({"FLOXIDE_ENCRYPTION_KEYS": f"new:{NEW}"})
    assert settings.encryption_keys == f"new:{NEW}"
    assert NEW not in repr(settings)
    assert read_settings({"FLOXIDE_ENCRYPTION_KEYS": ""}) == Settings()


def test_other_keys_take_the_place_of_the_applications_and_the_rest_stays() -> None:
    app = Floxide(workflows=[Echo], codec=[Compression(above=7), Encryption({"old": OLD}, required=True)])
    twin = app.with_keys(f"new:{NEW},old:{OLD}")
    assert repr(twin._codecs) == (
        "(Compression(above=7, level=1, at_most=67108864), "
        "Encryption(current='new', keys=['new', 'old'], required=True))"
    )
    assert "keys=['old']" in repr(app._codecs)
    assert [codec.name for codec in Floxide(workflows=[Echo]).with_keys(f"new:{NEW}")._codecs] == ["aes-gcm"]


def test_codecs_that_do_not_go_together_are_refused_when_the_application_is_made() -> None:
    with pytest.raises(ConfigurationError, match=r"Write codec=\[Compression\(\), Encryption"):
        Floxide(codec=[Encryption({"old": OLD}), Compression()])


def test_one_codec_needs_no_list_and_what_others_compressed_is_read_without_any(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/runs.db"
    texts = {"long": SECRET * 200, "too short to gain by it": "a"}

    async def write() -> None:
        async with Floxide(store=store, workflows=[Echo], codec=Compression()).orchestrator() as orchestrator:
            for run_id, text in texts.items():
                await (await orchestrator.start(Echo, text, run_id=run_id)).result(20)

    async def read(app: Floxide) -> dict[str, str]:
        async with app.orchestrator(with_worker=False) as orchestrator:
            return {run_id: await orchestrator.handle(Echo, run_id).result(20) for run_id in texts}

    asyncio.run(write())
    assert asyncio.run(read(Floxide(store=store, workflows=[Echo]))) == texts


def test_a_result_that_needs_a_key_is_refused_with_its_name(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/runs.db"

    async def write_and_read() -> None:
        app = Floxide(store=store, workflows=[Echo], codec=Encryption({"old": OLD}))
        async with app.orchestrator() as orchestrator:
            await (await orchestrator.start(Echo, SECRET, run_id="run")).result(20)
        async with Floxide(store=store, workflows=[Echo]).orchestrator(with_worker=False) as orchestrator:
            await orchestrator.handle(Echo, "run").result(20)

    with pytest.raises(MissingKeyError, match="'aes-gcm' with the key 'old', which this process lacks"):
        asyncio.run(write_and_read())
