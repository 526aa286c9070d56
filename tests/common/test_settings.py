"""Reading what a service is told."""

import json
from pathlib import Path
from typing import Any

import pytest
from chatbot_common.redis_url import RedisUrl
from chatbot_common.settings import ClosedModel, ServiceSettings, read_secrets
from pydantic import SecretStr, ValidationError

from tests.support.configuration import mapping
from tests.support.identity import Keys


class Settings(ServiceSettings):
    store: dict[str, SecretStr] = {}  # noqa: RUF012 - pydantic copies it


class WithRedis(ServiceSettings):
    redis_url: RedisUrl


class Files:
    """A configuration file and a secrets folder, named by the environment."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.config = folder / "config.json"
        self.secrets = folder / "secrets"
        self.secrets.mkdir()
        secret = settings.pop("service_private_key")
        self.settings = {key: settings[key] for key in ("bot", "listen", "identity", "telemetry", "drain_seconds")}
        self.config.write_text(json.dumps(self.settings))
        (self.secrets / "service_private_key").write_text(secret + "\n")

    def change(self, **changes: Any) -> None:
        self.config.write_text(json.dumps(self.settings | changes))


@pytest.fixture
def files(tmp_path: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> Files:
    files = Files(tmp_path, mapping("auth", keys))
    monkeypatch.setenv("CHATBOT_CONFIG", str(files.config))
    monkeypatch.setenv("CHATBOT_SECRETS", str(files.secrets))
    return files


class TestLoad:
    def test_joins_file_and_secrets(self, files: Files, keys: Keys) -> None:
        settings = Settings.load()

        assert settings.bot == "demo"
        assert settings.service_private_key.get_secret_value() == keys.services["auth"].private_text
        assert keys.services["auth"].private_text not in repr(settings)

    def test_unknown_key(self, files: Files) -> None:
        files.change(drain_secnds=3)

        with pytest.raises(ValidationError, match="drain_secnds"):
            Settings.load()

    def test_unknown_nested_key(self, files: Files) -> None:
        files.change(listen=files.settings["listen"] | {"prt": 1})

        with pytest.raises(ValidationError, match=r"listen\.prt"):
            Settings.load()

    def test_missing_key(self, files: Files) -> None:
        (files.secrets / "service_private_key").unlink()

        with pytest.raises(ValidationError, match="service_private_key"):
            Settings.load()

    def test_unknown_secret_is_named_and_not_shown(self, files: Files) -> None:
        (files.secrets / "databse_url").write_text("hunter22")

        with pytest.raises(ValidationError) as caught:
            Settings.load()

        assert "databse_url" in str(caught.value)
        assert "hunter22" not in str(caught.value)

    def test_a_process_ends_with_one_line_that_says_what_is_wrong(self, files: Files) -> None:
        files.change(drain_seconds=0)
        (files.secrets / "redis_url").write_text("http://:hunter22@r")

        with pytest.raises(SystemExit) as caught:
            WithRedis.load_or_exit()

        redis = "redis_url: the Redis URL must start with redis://, rediss:// (TLS), unix:// or redis+sentinel://"
        drain = "drain_seconds: Input should be greater than or equal to 1"
        assert caught.value.code == f"The settings cannot be used: {drain}; {redis}"

    def test_nor_does_one_that_was_told_nothing_trace_back(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("CHATBOT_CONFIG", raising=False)

        with pytest.raises(SystemExit, match=r"^The settings cannot be used: KeyError: 'CHATBOT_CONFIG'$"):
            Settings.load_or_exit()

    def test_frozen(self, files: Files) -> None:
        settings = Settings.load()

        with pytest.raises(ValidationError):
            settings.bot = "other"  # type: ignore[misc]

    def test_nothing_in_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("CHATBOT_CONFIG", raising=False)

        with pytest.raises(KeyError, match="CHATBOT_CONFIG"):
            Settings.load()


class TestReadSecrets:
    def test_one_final_newline_goes(self, tmp_path: Path) -> None:
        (tmp_path / "padded").write_text(" a b \n\n")

        assert read_secrets(tmp_path) == {"padded": " a b \n"}

    def test_written_on_windows(self, tmp_path: Path) -> None:
        (tmp_path / "key").write_bytes(b"value\r\n")

        assert read_secrets(tmp_path) == {"key": "value"}

    def test_as_kubelet_mounts_them(self, tmp_path: Path) -> None:
        real = tmp_path / "..2026_11_21"
        real.mkdir()
        (real / "key").write_text("value")
        (tmp_path / "..data").symlink_to(real)
        (tmp_path / "key").symlink_to("..data/key")

        assert read_secrets(tmp_path) == {"key": "value"}

    def test_folder_becomes_a_mapping(self, files: Files) -> None:
        (files.secrets / "store").mkdir()
        (files.secrets / "store" / "password").write_text("hunter22")

        assert Settings.load().store["password"].get_secret_value() == "hunter22"


class TestRedisUrl:
    class Told(ClosedModel):
        redis_url: RedisUrl

    @pytest.mark.parametrize(
        "url",
        [
            "redis://:pw@r:6379",
            "rediss://:pw@r:6380/0?ssl_cert_reqs=none",
            "unix:///r.sock",
            "redis+sentinel://:pw@a,b/m/0",
        ],
    )
    def test_accepted(self, url: str) -> None:
        assert self.Told.model_validate({"redis_url": url + "\n"}).redis_url.get_secret_value() == url

    @pytest.mark.parametrize("url", ["r:6379", "http://:hunter22@r", "redis+cluster://:hunter22@r", ""])
    def test_refused(self, url: str) -> None:
        with pytest.raises(ValidationError, match="must start with redis://, rediss://") as caught:
            self.Told.model_validate({"redis_url": url})

        assert "hunter22" not in str(caught.value)
