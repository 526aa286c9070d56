"""What a Postgres URL may say, and that it is done."""

from pathlib import Path

import pytest
from chatbot_common.database import Database
from chatbot_common.database_url import AUTHORITIES, DatabaseUrl, dsn_of
from chatbot_common.errors import Unavailable
from chatbot_common.settings import ClosedModel
from pydantic import ValidationError
from sqlalchemy import text

from tests.support.doors import certified, door
from tests.support.stores import Postgres


class Told(ClosedModel):
    database_url: DatabaseUrl


class TestForms:
    @pytest.mark.parametrize(
        ("written", "read"),
        [
            ("postgres://u:p@db/app", "postgresql://u:p@db/app"),
            ("postgresql://u:p@bot-rw.ns:5432/app\n", "postgresql://u:p@bot-rw.ns:5432/app"),
            ("postgresql+asyncpg://u@/app?host=/run/pg", "postgresql://u@/app?host=/run/pg"),
            ("postgresql:///app?host=/run/pg", "postgresql:///app?host=/run/pg"),
            ("postgresql://u:a%2Fb%40c@db/app", "postgresql://u:a%2Fb%40c@db/app"),
            ("postgresql://u@one:1,two:2/app", "postgresql://u@one:1,two:2/app"),
            ("postgres://u@db/app?sslmode=require", "postgresql://u@db/app?sslmode=require"),
            ("postgresql+asyncpg://u@db/app?ssl=require", "postgresql://u@db/app?sslmode=require"),
            ("postgres://u@db/app?connect_timeout=10&gssencmode=disable", "postgresql://u@db/app"),
            (
                "postgres://u@db/app?channel_binding=prefer&application_name=b",
                "postgresql://u@db/app?application_name=b",
            ),
        ],
    )
    def test_become_one(self, written: str, read: str) -> None:
        assert dsn_of(written) == read
        assert dsn_of(read) == read

    @pytest.mark.parametrize(
        ("written", "why"),
        [
            ("a long value", "must start with postgresql://"),
            ("mysql://u:hunter22@db/app", "must start with postgresql://"),
            ("postgresql+psycopg://u:hunter22@db/app", "must start with postgresql://"),
            ("postgres://u:hunter22@db", "name of the database"),
            ("postgres://u:hunter22@db/", "name of the database"),
            ("postgres://u:x/hunter22@db/app", "must be escaped"),
            ("postgres://u:x?hunter22@db/app", "must be escaped"),
            ("postgres://u:x#hunter22@db/app", "must be escaped"),
            ("postgres://u:[hunter22@db/app", "cannot be read"),
            ("postgres://u:hunter22@db/app?sslmode=on", "sslmode in the database URL must be one of disable"),
            ("postgres://u:hunter22@db/app?channel_binding=require", "asks for channel_binding"),
            ("postgres://u:hunter22@db/app?gssencmode=require", "asks for gssencmode"),
            ("postgres://u:hunter22@db/app?sslcert=/c", "asks for sslcert"),
            ("postgres://u:hunter22@db/app?sslmode=verify-full&sslrootcert=/nowhere", "there is no file /nowhere"),
        ],
    )
    def test_refused_with_a_reason_and_no_password(self, written: str, why: str) -> None:
        with pytest.raises(ValidationError, match=why) as caught:
            Told.model_validate({"database_url": written})

        assert "hunter22" not in str(caught.value)

    def test_certificates_come_from_the_system_unless_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (system := tmp_path / "system.crt").touch()
        (own := tmp_path / "own.crt").touch()
        monkeypatch.setenv("SSL_CERT_FILE", str(system))
        monkeypatch.delenv("PGSSLROOTCERT", raising=False)
        url = "postgresql://u@db/app?sslmode=verify-full"

        assert dsn_of(url) == f"{url}&sslrootcert={system}"
        assert dsn_of(url + "&sslrootcert=system") == f"{url}&sslrootcert={system}"
        monkeypatch.setenv("PGSSLROOTCERT", str(own))
        assert dsn_of(url) == f"{url}&sslrootcert={own}"
        assert len(AUTHORITIES) == 2

    @pytest.mark.parametrize("mode", ["", "?sslmode=verify-full"])
    def test_a_certificate_that_was_brought_has_the_server_checked(
        self, mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (brought := tmp_path / "brought.crt").touch()
        monkeypatch.setenv("CHATBOT_DATABASE_AUTHORITY", str(brought))
        told = Told.model_validate({"database_url": f"postgres://u@db/app{mode}"}).database_url.get_secret_value()
        assert told == f"postgresql://u@db/app?sslmode=verify-full&sslrootcert={brought}"

    @pytest.mark.parametrize("mode", ["disable", "allow", "prefer", "require"])
    def test_and_a_url_that_would_not_use_it_is_refused(self, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CHATBOT_DATABASE_AUTHORITY", "/brought.crt")
        with pytest.raises(ValidationError, match=f"sslmode={mode}.*ca.crt.*leave sslmode out"):
            Told.model_validate({"database_url": f"postgres://u@db/app?sslmode={mode}"})


class TestConnect:
    async def test_as_other_operators_write_it(self, postgres: Postgres) -> None:
        async with door(postgres.socket) as port:
            assert await connects(f"postgres://postgres:ignored@127.0.0.1:{port.port}/postgres?application_name=bot")

    async def test_encrypted_and_checked(self, postgres: Postgres, tmp_path: Path) -> None:
        tls, authority = certified(tmp_path / "own")
        _, stranger = certified(tmp_path / "stranger")
        async with door(postgres.socket, tls=tls, negotiation="postgres") as port:
            url = f"postgresql://postgres@127.0.0.1:{port.port}/postgres"
            assert await connects(f"{url}?sslmode=require")
            assert await connects(f"{url}?sslmode=verify-full&sslrootcert={authority}")
            assert not await connects(f"{url}?sslmode=verify-full&sslrootcert={stranger}")
            assert await connects(dsn_of(url, str(authority)))
            assert not await connects(dsn_of(url, str(stranger)))
            elsewhere = url.replace("127.0.0.1", "localhost")
            assert await connects(f"{elsewhere}?sslmode=verify-ca&sslrootcert={authority}")
            assert not await connects(f"{elsewhere}?sslmode=verify-full&sslrootcert={authority}")

    async def test_unencrypted_where_encryption_was_asked_for(self, postgres: Postgres) -> None:
        async with door(postgres.socket) as port:
            assert not await connects(f"postgres://postgres@127.0.0.1:{port.port}/postgres?sslmode=require")


async def connects(url: str) -> bool:
    database = Database(url)
    try:
        async with database.read() as session:
            return bool(await session.scalar(text("SELECT true")))
    except Unavailable:
        return False
    finally:
        await database.close()
