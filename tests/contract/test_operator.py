"""What the operator mounts into a pod is what the program in it loads: the real settings models, the real apps."""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, STDOUT
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg  # type: ignore[import-untyped]
import pytest
from chatbot_auth.__main__ import MIGRATIONS as AUTH
from chatbot_auth.main import create_app as create_auth
from chatbot_auth.sessions.keys import SigningKeys
from chatbot_auth.settings import Settings as Auth
from chatbot_chat.main import create_app as create_chat
from chatbot_chat.settings import Settings as Chat
from chatbot_common.copying import FORMER
from chatbot_common.database import migrate
from chatbot_common.database_url import dsn_of
from chatbot_common.identity import ServiceIdentity
from chatbot_common.settings import CONFIG_VARIABLE, SECRETS_VARIABLE, ServiceSettings
from chatbot_conversation.__main__ import MIGRATIONS as CONVERSATION
from chatbot_conversation.main import create_app as create_conversation
from chatbot_conversation.settings import Settings as Conversation
from chatbot_gateway.main import create_app as create_gateway
from chatbot_gateway.settings import Settings as Gateway
from chatbot_operator import names
from chatbot_operator.world import Manifest
from chatbot_resource.configuration import SERVICES, Service
from sqlalchemy.engine import make_url

from tests.common.test_copying import content
from tests.operator.simulated import Cluster, Name, make_bot
from tests.operator.specs import BY_HAND
from tests.operator.test_moving import OURS, hibernated, jobs, moved, settled
from tests.support.stores import Postgres

MODELS: dict[str, type[ServiceSettings]] = {
    "gateway": Gateway,
    "auth": Auth,
    "chat": Chat,
    "conversation": Conversation,
}
MIGRATIONS = {"auth": AUTH, "conversation": CONVERSATION}
ROWS = {
    "auth": "INSERT INTO users (id, email, password_hash) VALUES ($1, 'a@example.com', '')",
    "conversation": "INSERT INTO conversations (user_id, id, title) VALUES ($1, $1, 'Hello')",
}
URIS = {"cache": "redis://cache:6379/0", "auth-db": "postgresql://a@h/auth", "conversation-db": "postgresql://a@h/c"}


@pytest.fixture(params=BY_HAND)
def children(request: pytest.FixtureRequest) -> dict[Name, Manifest]:
    return Cluster(make_bot(BY_HAND[request.param])).converge().children


def mount(children: dict[Name, Manifest], template: Manifest, root: Path, patch: pytest.MonkeyPatch) -> None:
    """Make the files a pod would see below `root`, and the environment of its container."""
    pod = template["spec"]
    container = pod["containers"][0]
    folders = {item["name"]: root / item["mountPath"].removeprefix("/") for item in container["volumeMounts"]}
    for volume in pod["volumes"]:
        for source in volume.get("projected", {}).get("sources", []) or [volume]:
            for path, text in files(children, source).items():
                target = folders[volume["name"]] / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(text)
    for variable in container["env"]:
        patch.setenv(variable["name"], str(root / variable["value"].removeprefix("/")))


def files(children: dict[Name, Manifest], source: Manifest) -> dict[str, str]:
    """Path → text of one volume source; what users own is made up."""
    if "secret" in source:
        data = children.get(("Secret", source["secret"]["name"]), {}).get("data", {})
        users = URIS.get(source["secret"]["name"], "a key").encode()
        return {
            item["path"]: b64decode(data.get(item["key"], b64encode(users))).decode()
            for item in source["secret"]["items"]
        }
    if "configMap" in source and "items" in source["configMap"]:
        return {item["path"]: "text" for item in source["configMap"]["items"]}
    if "configMap" in source:
        return dict(children["ConfigMap", source["configMap"]["name"]]["data"])
    return {}


def load(service: Service, children: dict[Name, Manifest], root: Path, patch: pytest.MonkeyPatch) -> Any:
    template = children["Deployment", names.child("demo", service)]["spec"]["template"]
    mount(children, template, root, patch)
    return MODELS[service].load()


@pytest.mark.parametrize("service", SERVICES)
class TestEveryPod:
    def test_loads_what_it_is_given(
        self, service: Service, children: dict[Name, Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        settings = load(service, children, tmp_path, monkeypatch)
        assert settings.bot == "demo"
        assert (settings.listen.port, settings.listen.private_port) == (names.HTTP_PORT, names.PRIVATE_PORT)

    def test_is_known_to_the_others_by_its_key(
        self, service: Service, children: dict[Name, Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        mine, theirs = (load(name, children, tmp_path / name, monkeypatch) for name in (service, "conversation"))
        token = ServiceIdentity(
            service, mine.service_private_key.get_secret_value(), mine.identity.service_public_keys
        ).token("conversation")
        verifier = ServiceIdentity(
            "conversation", theirs.service_private_key.get_secret_value(), theirs.identity.service_public_keys
        )
        assert verifier.verify(token) == service


def test_apps_start_from_it(children: dict[Name, Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def loaded(service: Service) -> Any:
        settings = load(service, children, tmp_path / service, monkeypatch)
        if service != "chat":
            return settings
        prompts, *others = (
            {language: str(tmp_path / "chat" / path[1:]) for language, path in files.items()}
            for files in (settings.prompt_files, *(item.prompt_files for item in settings.variants))
        )
        assert all(Path(path).is_file() for paths in (prompts, *others) for path in paths.values())
        variants = [
            variant.model_copy(update={"prompt_files": paths})
            for variant, paths in zip(settings.variants, others, strict=True)
        ]
        return settings.model_copy(update={"prompt_files": prompts, "variants": variants})

    faqs = loaded("conversation").faq_file
    assert faqs is None or (tmp_path / "conversation" / faqs[1:]).is_file()
    create_gateway(loaded("gateway"))
    create_auth(loaded("auth"))
    create_chat(loaded("chat"))
    create_conversation(loaded("conversation"))


@pytest.mark.parametrize("owner", names.OWNERS)
def test_migrations_load_the_same(
    owner: names.Owner, children: dict[Name, Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = next(
        item
        for (kind, _), item in children.items()
        if kind == "Job" and item["metadata"]["labels"][names.COMPONENT] == f"{owner}-db"
    )
    mount(children, job["spec"]["template"], tmp_path, monkeypatch)
    assert job["spec"]["template"]["spec"]["containers"][0]["command"][-1] == "migrate"
    assert MODELS[owner].load().bot == "demo"


@pytest.mark.parametrize("owner", names.OWNERS)
async def test_copies_fill_the_new_database(
    owner: names.Owner, postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Job as it is rendered, and the program that it runs: between two databases, with the files it mounts."""
    old, new = (postgres.url(postgres.create()) for _ in range(2))
    await migrate(old, MIGRATIONS[owner])
    connection = await asyncpg.connect(dsn_of(old))
    await connection.execute(ROWS[owner], UUID(int=1))
    await connection.close()
    cluster = moved(hibernated(settled()), OURS)
    for secret, key, url in (("demo-postgres", f"{owner}-uri", old), (names.role("demo", owner), "uri", new)):
        cluster.child("Secret", secret)["data"][key] = b64encode(url.encode()).decode()
    template = jobs(cluster)[f"{owner}-copy"]["spec"]["template"]
    mount(cluster.children, template, tmp_path, monkeypatch)
    former = tmp_path / FORMER.relative_to("/")
    assert former.read_text() == old
    [container] = template["spec"]["containers"]
    python, *command = container["command"]
    assert python == "python"
    # Where it would look by itself is above; a test has no file system of its own.
    copy = await asyncio.create_subprocess_exec(
        sys.executable, *command, *container["args"], "--from", str(former), stdout=PIPE, stderr=STDOUT
    )
    said, _ = await copy.communicate()
    assert copy.returncode == 0, said.decode()
    assert await content(dsn_of(new)) == await content(dsn_of(old))


def test_generated_values_are_what_their_readers_expect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    children = Cluster(make_bot(BY_HAND["dev"])).converge().children
    auth = load("auth", children, tmp_path, monkeypatch)
    url = make_url(auth.database_url.get_secret_value())
    assert (url.username, url.host, url.port, url.database) == ("auth", "demo-postgres", 5432, "auth")
    assert url.password == b64decode(children["Secret", "demo-postgres"]["data"]["auth-password"]).decode()
    keys = SigningKeys(auth.signing_keys, "demo", "demo", seconds=60)
    assert len(keys.public.keys) == 1
    assert json.loads(b64decode(children["Secret", "demo-signing-keys"]["data"]["signing_keys"]))["current"]


def test_variables_are_those_the_services_read(children: dict[Name, Manifest]) -> None:
    container = children["Deployment", "demo-chat"]["spec"]["template"]["spec"]["containers"][0]
    told = {item["name"]: item["value"] for item in container["env"] if item["name"].startswith("CHATBOT_")}
    assert told == {CONFIG_VARIABLE: names.CONFIG_FILE, SECRETS_VARIABLE: names.SECRETS_FOLDER}
