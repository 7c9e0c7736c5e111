from __future__ import annotations

from floxide_amqp.apps.settings import Settings, read_settings


def test_the_environment_names_broker_and_store() -> None:
    settings = read_settings({"FLOXIDE_BROKER": "amqp://a", "FLOXIDE_STORE": "sqlite:///b", "OTHER": "c"})
    assert settings == Settings(broker="amqp://a", store="sqlite:///b")


def test_an_empty_variable_counts_as_none() -> None:
    assert read_settings({"FLOXIDE_BROKER": "", "FLOXIDE_STORE": "", "FLOXIDE_HTTP": ""}) == Settings()


def test_the_environment_says_where_a_worker_serves_its_health_and_the_command_line_keeps_it() -> None:
    settings = read_settings({"FLOXIDE_HTTP": "127.0.0.1:8080"})
    assert settings.under(broker="amqp://a", store=None) == Settings(broker="amqp://a", http="127.0.0.1:8080")


def test_the_process_environment_is_read_where_none_is_given(monkeypatch) -> None:
    monkeypatch.setenv("FLOXIDE_STORE", "sqlite:///mine.db")
    monkeypatch.delenv("FLOXIDE_BROKER", raising=False)
    assert read_settings() == Settings(store="sqlite:///mine.db")


def test_the_command_line_wins_over_the_environment() -> None:
    settings = Settings(broker="amqp://a", store="sqlite:///b")
    assert settings.under(broker=None, store="sqlite:///c") == Settings(broker="amqp://a", store="sqlite:///c")
