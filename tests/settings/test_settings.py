"""Settings: what is read, which source takes precedence, and what is refused at the start."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from spanpost.model.errors import ConfigError
from spanpost.settings import LISTS, Settings, is_sdk_disabled, load, section_model, variable, variable_names
from spanpost.sinks import registry

pytestmark = pytest.mark.usefixtures("clean_environment")


def test_without_settings_optional_sections_are_off() -> None:
    """Without settings: no sink, no metrics, no database."""
    settings = load()
    assert (settings.sinks, settings.metrics, settings.dsn, settings.routes) == ({}, None, None, ())


def test_a_section_that_is_named_is_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """One variable of a section turns the section on, with defaults for the rest."""
    monkeypatch.setenv("SPANPOST_METRICS__PORT", "9999")
    metrics = load().metrics
    assert metrics is not None
    assert (metrics.enabled, metrics.host, metrics.port) == (True, "127.0.0.1", 9999)


def test_what_is_said_later_wins(monkeypatch: pytest.MonkeyPatch, clean_environment: Path) -> None:
    """DATABASE_URL < spanpost.toml < environment < arguments, field by field."""
    monkeypatch.setenv("DATABASE_URL", "postgres://from/database_url")
    assert load().dsn == "postgresql://from/database_url"
    (clean_environment / "spanpost.toml").write_text('[database]\nurl = "postgresql://from/toml"\npool_size = 7\n')
    assert load().dsn == "postgresql://from/toml"
    monkeypatch.setenv("SPANPOST_DATABASE__URL", "postgresql://from/env")
    assert load().dsn == "postgresql://from/env"
    settings = load(database={"url": "postgresql://from/argument"})
    assert settings.dsn == "postgresql://from/argument"
    assert settings.database.pool_size == 7


def test_a_driver_in_the_url_means_the_same_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLAlchemy's postgresql+psycopg:// is understood."""
    monkeypatch.setenv("DATABASE_URL", "postgresql+psycopg://u:p@h/d")
    assert load().dsn == "postgresql://u:p@h/d"


def test_another_database_is_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """An application's MySQL in DATABASE_URL is ignored, and refused in spanpost's own variable."""
    monkeypatch.setenv("DATABASE_URL", "mysql://u:p@h/d")
    assert load().dsn is None
    monkeypatch.setenv("SPANPOST_DATABASE__URL", "mysql://u:hunter2@h/d")
    with pytest.raises(
        ConfigError, match=r"database\.url: it names a mysql database.*SPANPOST_DATABASE__URL"
    ) as refused:
        load()
    assert "hunter2" not in str(refused.value)


@pytest.mark.proves("settings", "settings-file")
@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("SPANPOST_DATABASE_URL", "SPANPOST_DATABASE__URL"),
        ("SPANPOST_SLACK__TOKN", "SPANPOST_SLACK__TOKEN"),
        ("SPANPOST_METRIC__PORT", "SPANPOST_METRICS__PORT"),
        ("SPANPOST_CONFG", "SPANPOST_CONFIG"),
    ],
)
def test_a_misspelt_variable_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, meant: str) -> None:
    """A misspelt variable stops the start, with the closest name."""
    monkeypatch.setenv(name, "x")
    with pytest.raises(ConfigError, match=rf"^{name}: there is no such setting \(did you mean {meant}\?\)"):
        load()


@pytest.mark.proves("settings", "settings-file")
def test_a_misspelt_key_is_refused(clean_environment: Path) -> None:
    """Misspelt sections and fields of the file are all reported at once."""
    (clean_environment / "spanpost.toml").write_text(
        '[databse]\nurl = "x"\n[slack]\nchanel = "#a"\n[[routes]]\nsnk = "slack"\n'
    )
    with pytest.raises(ConfigError) as refused:
        load()
    lines = str(refused.value).splitlines()
    assert [line.split(";")[0] for line in lines] == [
        "spanpost.toml: [databse]: there is no such section (did you mean database?)",
        "spanpost.toml: slack.chanel: there is no such setting (did you mean channel?)",
        "spanpost.toml: routes.snk: there is no such setting (did you mean sink?)",
    ]


def test_kubernetes_variables_are_nobodys_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kubernetes' variables for a service named spanpost are accepted; a misspelt one beside them is not."""
    monkeypatch.setenv("SPANPOST_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("SPANPOST_PORT", "tcp://10.0.0.1:4318")
    monkeypatch.setenv("SPANPOST_GATEWAY_PORT_4318_TCP_ADDR", "10.0.0.1")
    assert load().metrics is None
    monkeypatch.setenv("SPANPOST_METRICS_PORT", "9464")
    with pytest.raises(ConfigError, match="SPANPOST_METRICS__PORT"):
        load()


@pytest.mark.proves("settings", "settings-file", "settings-values")
@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("SPANPOST_DATABASE__POOL_SIZE", "many", r"database\.pool_size: .*integer.*SPANPOST_DATABASE__POOL_SIZE"),
        ("SPANPOST_METRICS__PORT", "70000", r"metrics\.port: .*65535"),
        ("SPANPOST_CONTEXT__WARN_AT", "0.9,0.5", r"SPANPOST_CONTEXT__WARN_AT: this is not JSON"),
        ("SPANPOST_CONTEXT__WARN_AT", "[0.9, 0.5]", r"context\.warn_at: must be ascending"),
        ("SPANPOST_CONTEXT__WARN_AT", "[70, 85]", r"context\.warn_at\.0: .*less than 1"),
        ("SPANPOST_ROUTES", '[{"agent": "x"}]', r"routes\.0\.sink: field required"),
        ("SPANPOST_NOTIFICATIONS__MAX_AGE", "soon", r"notifications\.max_age: "),
    ],
)
def test_a_wrong_value_is_explained(monkeypatch: pytest.MonkeyPatch, name: str, value: str, says: str) -> None:
    """A wrong value is reported with its field, the reason and its source."""
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=says):
        load()


@pytest.mark.proves("settings", "settings-file")
def test_a_broken_file_is_explained(monkeypatch: pytest.MonkeyPatch, clean_environment: Path) -> None:
    """A file that is missing, or no TOML, is named."""
    monkeypatch.setenv("SPANPOST_CONFIG", "nowhere.toml")
    with pytest.raises(ConfigError, match=r"SPANPOST_CONFIG: there is no file nowhere\.toml"):
        load()
    (clean_environment / "broken.toml").write_text("[database\n")
    monkeypatch.setenv("SPANPOST_CONFIG", "broken.toml")
    with pytest.raises(ConfigError, match=r"broken\.toml: this is not TOML"):
        load()


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the token nor the database's password is in the settings' text."""
    monkeypatch.setenv("SPANPOST_SLACK__TOKEN", "xoxb-hunter2")
    monkeypatch.setenv("SPANPOST_DATABASE__URL", "postgresql://u:hunter2@h/d")
    settings = load()
    assert "hunter2" not in repr(settings) + str(settings) + settings.model_dump_json()


def test_time_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    """A duration is seconds or ISO 8601."""
    monkeypatch.setenv("SPANPOST_NOTIFICATIONS__MAX_AGE", "90")
    monkeypatch.setenv("SPANPOST_INTAKE__POLL_INTERVAL", "PT0.5S")
    settings = load()
    assert (settings.notifications.max_age, settings.intake.poll_interval) == (
        timedelta(seconds=90),
        timedelta(seconds=0.5),
    )


def test_data_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded database is under XDG_DATA_HOME if that is set."""
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert load().database.data_dir == Path("/data/spanpost")


def test_otel_sdk_disabled(monkeypatch: pytest.MonkeyPatch) -> None:
    """OTEL_SDK_DISABLED is read as OpenTelemetry reads it: only `true`, in any case."""
    assert not is_sdk_disabled()
    monkeypatch.setenv("OTEL_SDK_DISABLED", "1")
    assert not is_sdk_disabled()
    monkeypatch.setenv("OTEL_SDK_DISABLED", "True")
    assert is_sdk_disabled()


def test_every_setting_is_described_and_reachable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each field has a description and a variable among the known names."""
    for section in (*Settings.model_fields, *registry.names()):
        model = section_model(section)
        for name, field in model.model_fields.items():
            assert field.description, f"{section}.{name}"
            assert section in LISTS or variable(section, name) in variable_names()


def test_a_misspelt_section_in_an_argument_is_refused() -> None:
    """A misspelt section in an argument is refused with the closest name."""
    with pytest.raises(ConfigError, match=r"databse: there is no such section \(did you mean database\?\)"):
        load(databse={"url": "x"})


def test_secret_files_are_variables(clean_environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file of SPANPOST_SECRETS is the variable of its name, without its last line break; other files are not
    read, and a changed file counts at the next reading.
    """
    files = clean_environment / "secrets"
    files.mkdir()
    monkeypatch.setenv("SPANPOST_SECRETS", str(files))
    (files / "SPANPOST_SLACK__TOKEN").write_text("xoxb-one\n")
    (files / "DATABASE_URL").write_text("postgresql://me:first@db/spanpost\n")
    (files / "..data").mkdir()
    (files / "tls.key").write_text("\udcff", errors="surrogateescape")

    def read() -> tuple[str, str | None]:
        settings = load()
        return settings.sinks["slack"].token.get_secret_value(), settings.dsn  # type: ignore[attr-defined]

    assert read() == ("xoxb-one", "postgresql://me:first@db/spanpost")
    (files / "SPANPOST_SLACK__TOKEN").write_text("xoxb-two\n")
    assert read()[0] == "xoxb-two"


@pytest.mark.proves("settings", "settings-values")
@pytest.mark.parametrize(
    ("name", "content", "environment", "said"),
    [
        ("SPANPOST_SLACK__TOKEN", b"xoxb-hidden", {"SPANPOST_SLACK__TOKEN": "xoxb-1"}, "unset one of them"),
        ("SPANPOST_SLACK__TOKE", b"xoxb-hidden", {}, "did you mean SPANPOST_SLACK__TOKEN"),
        ("SPANPOST_SLACK__TOKEN", b"xoxb-\xffhidden", {}, "must be UTF-8"),
        ("SPANPOST_SLACK__TOKEN", b"hidden" * 200_000, {}, "bytes"),
        ("SPANPOST_SLACK__TOKEN", None, {}, "cannot be read"),
    ],
)
def test_secret_files_that_cannot_be_used(
    clean_environment: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    content: bytes | None,
    environment: dict[str, str],
    said: str,
) -> None:
    """A file that is set twice, misspelt, too long, unreadable or no text is refused by name, never by content."""
    file = clean_environment / "secrets" / name
    file.parent.mkdir()
    if content is None:
        file.mkdir()
    else:
        file.write_bytes(content)
    for key, value in {"SPANPOST_SECRETS": str(file.parent), **environment}.items():
        monkeypatch.setenv(key, value)
    with pytest.raises(ConfigError) as caught:
        load()
    assert name in str(caught.value)
    assert said in str(caught.value)
    assert "hidden" not in str(caught.value)
