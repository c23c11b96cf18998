"""Settings come from documented variables, secrets from files that variables name."""

from pathlib import Path

import pytest

from podium.common.settings import DatabaseSettings, JwtSettings, NatsSettings, RedisSettings


def test_a_secret_is_read_from_the_file_that_a_variable_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``X_FILE`` gives the value of ``X``; a trailing newline does not count."""
    secret = tmp_path / "password"
    secret.write_text("s3cret\n")
    monkeypatch.setenv("PODIUM_DATABASE_PASSWORD_FILE", str(secret))
    assert DatabaseSettings().password.get_secret_value() == "s3cret"


def test_a_file_beats_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where both are given the file counts."""
    secret = tmp_path / "password"
    secret.write_text("file")
    monkeypatch.setenv("PODIUM_NATS_PASSWORD", "variable")
    monkeypatch.setenv("PODIUM_NATS_PASSWORD_FILE", str(secret))
    assert NatsSettings().password.get_secret_value() == "file"


def test_a_secret_does_not_show_in_logs() -> None:
    """Printing settings hides passwords."""
    assert "hunter2" not in repr(DatabaseSettings(password="hunter2"))  # type: ignore[arg-type]


def test_redis_nodes_are_host_and_port() -> None:
    """Nodes are separated by commas; IPv6 hosts keep their colons."""
    assert RedisSettings(nodes="a:1, ::1:2,").addresses() == [("a", 1), ("::1", 2)]


def test_the_jwks_file_is_known_by_path_and_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The verifier reads the file again when it changes, so its path is kept, too."""
    path = tmp_path / "jwks.json"
    path.write_text('{"keys":[]}')
    monkeypatch.setenv("PODIUM_JWT_JWKS_FILE", str(path))
    settings = JwtSettings()
    assert (settings.jwks, settings.jwks_file) == ('{"keys":[]}', path)
