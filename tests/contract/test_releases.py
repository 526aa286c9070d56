"""This version beside the one before: what a new operator tells old images, and what old images find in new tables.

`releases/VERSION/` is a picture of a release: the settings each service takes, resources that there may be, and what
the databases demand. That of the version in the making is repainted as it changes, and stays as it was once the version
has been raised; `docs/decisions/0013-what-the-release-before-understands.md` says what for.
"""

import asyncio
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

import asyncpg
import jsonschema
import pytest
import yaml
from alembic.script import ScriptDirectory
from chatbot_auth.__main__ import MIGRATIONS as AUTH
from chatbot_common.database import alembic_config, migrate
from chatbot_conversation.__main__ import MIGRATIONS as CONVERSATION
from chatbot_resource.configuration import SERVICES, Service

from tests.contract.databases import Picture, contractions, picture
from tests.contract.test_configuration import FULL, MODELS, secrets
from tests.operator.specs import PRODUCTION
from tests.operator.test_components import REWRITE, Plain
from tests.support.configuration import mapping
from tests.support.identity import Keys
from tests.support.stores import Postgres

RELEASES = Path(__file__).with_name("releases")
PRESENT = RELEASES / version("chatbot-resource")
FOLDERS = sorted({PRESENT, *(path for path in RELEASES.iterdir() if path.is_dir())})
"""The version in the making and the one before it; older ones may go."""
RESOURCES: dict[str, Any] = {"minimal": {}, "dev": {"profile": "Dev"}, "full": FULL, "production": PRODUCTION}
DATABASES = {"auth": AUTH, "conversation": CONVERSATION}


def schema(service: Service) -> Any:
    """Of all a service's settings, without the words."""
    return _wordless(MODELS[service].model_json_schema())


def _wordless(found: Any) -> Any:
    if isinstance(found, list):
        return [_wordless(item) for item in found]
    if isinstance(found, dict):
        words = ("title", "description")
        return {key: _wordless(value) for key, value in found.items() if key not in words or isinstance(value, dict)}
    return found


def read(folder: Path, name: str) -> Any:
    return yaml.safe_load((folder / f"{name}.yaml").read_text(encoding="utf-8"))


def paint(name: str, content: Any) -> str:
    """How the version in the making has it; what it is now where that is asked for."""
    file = PRESENT / f"{name}.yaml"
    if REWRITE in os.environ:
        file.parent.mkdir(exist_ok=True)
        file.write_text(yaml.dump(content, Dumper=Plain, width=120, default_flow_style=None), encoding="utf-8")
    assert read(PRESENT, name) == content, f"rewrite the picture with {REWRITE}=1 and look at the difference"
    return file.name


def told(service: Service, spec: dict[str, Any], keys: Keys) -> dict[str, Any]:
    """Everything a service finds in its files, for a resource."""
    files = {"faq_file": "faqs.yaml", "documents_dir": "docs", "prompt_files": {"en": "p"}}
    return mapping(service, keys, spec=spec, **files) | secrets(service)


class TestPicture:
    def test_of_settings(self) -> None:
        assert paint("settings", {service: schema(service) for service in SERVICES})

    def test_of_resources(self) -> None:
        assert paint("resources", RESOURCES)

    def test_of_databases(self, databases: dict[str, Picture]) -> None:
        assert paint("databases", databases)


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
class TestSettings:
    """Of images that stay at a release, or go back to it, under this operator."""

    def test_take_what_is_told_of_the_resources_there_were(self, folder: Path, service: Service, keys: Keys) -> None:
        for spec in read(folder, "resources").values():
            jsonschema.validate(told(service, spec, keys), read(folder, "settings")[service])

    def test_do_not_take_what_came_later(self, folder: Path, service: Service, keys: Keys) -> None:
        [spec, *_] = read(folder, "resources").values()
        takes = jsonschema.Draft202012Validator(read(folder, "settings")[service]).is_valid
        found = told(service, spec, keys)
        assert takes(found)
        assert not takes(found | {"later": 1})
        assert not takes(found | {"telemetry": found["telemetry"] | {"later": 1}})
        assert not takes({key: value for key, value in found.items() if key != "drain_seconds"})


@pytest.fixture(scope="module")
def databases(postgres: Postgres) -> dict[str, Picture]:
    """As the migrations of today leave them."""

    async def made(scripts: Path) -> Picture:
        url = postgres.url(postgres.create())
        await migrate(url, scripts)
        return await picture(url)

    return {owner: asyncio.run(made(scripts)) for owner, scripts in DATABASES.items()}


def harmless(scripts: Path) -> dict[str, str]:
    """What migrations say the release before can live with, and why: their `HARMLESS`."""
    walked = ScriptDirectory.from_config(alembic_config(scripts)).walk_revisions()
    return {finding: why for script in walked for finding, why in getattr(script.module, "HARMLESS", {}).items()}


@pytest.mark.parametrize("owner", DATABASES)
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_tables_are_still_what_a_release_was_written_for(
    folder: Path, owner: str, databases: dict[str, Picture]
) -> None:
    found = contractions(read(folder, "databases")[owner], databases[owner])
    assert set(found) <= harmless(DATABASES[owner]).keys()


class TestContractions:
    """Each change that an older service would stumble over is found; those it does not notice are not."""

    @pytest.mark.parametrize(
        ("change", "found"),
        [
            ("ALTER TABLE users DROP COLUMN timezone", ["users.timezone is gone"]),
            ("ALTER TABLE users RENAME COLUMN name TO called", ["users.name is gone"]),
            ("DROP TABLE sign_in_links", ["sign_in_links is gone"]),
            ("ALTER TABLE users ALTER COLUMN timezone TYPE varchar(32)", ["users.timezone has another type"]),
            ("ALTER TABLE users ALTER COLUMN name SET NOT NULL", ["users.name may no longer be null"]),
            ("ALTER TABLE users ALTER COLUMN language DROP DEFAULT", ["users.language has lost its default"]),
            ("ALTER TABLE users ADD COLUMN color text NOT NULL", ["users.color is new, and has no default"]),
            ("ALTER TABLE users ADD CHECK (name <> '')", ["users has a new rule: CHECK (((name)::text <> ''::text))"]),
            ("CREATE UNIQUE INDEX ON users (name)", ["users has a new rule: UNIQUE btree (name)"]),
            ("ALTER TABLE users ADD COLUMN color text", []),
            ("ALTER TABLE users ADD COLUMN color text NOT NULL DEFAULT 'blue' UNIQUE", []),
            ("ALTER TABLE users ALTER COLUMN email DROP NOT NULL", []),
            ("CREATE TABLE colors (name text NOT NULL)", []),
            ("CREATE INDEX ON users (name)", []),
        ],
    )
    async def test_of(self, postgres: Postgres, databases: dict[str, Picture], change: str, found: list[str]) -> None:
        url = postgres.url(postgres.create())
        await migrate(url, AUTH)
        connection = await asyncpg.connect(url.replace("+asyncpg", ""))
        await connection.execute(change)
        await connection.close()
        assert contractions(databases["auth"], await picture(url)) == found
