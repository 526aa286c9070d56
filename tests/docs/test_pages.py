"""What every page promises: its links lead somewhere, its examples are valid, its commands name values that exist."""

import re
from pathlib import Path

import chartvalues
import pytest
import yaml
from chatbot_resource.model import KIND, ChatbotDeployment

from tests.docs.pages import GUIDES, PAGES, ROOT, SAMPLES, Block, anchor, blocks, headings, links
from tests.operator.simulated import Cluster, make_bot
from tests.support.apiserver import ApiServer

EXAMPLES = [block for page in GUIDES for block in blocks(page, "yaml")]
DRY_RUN = ("apply", "--dry-run=server", "--validate=strict", "--warnings-as-errors")
COMMANDS = [block for page in PAGES for block in blocks(page, "console", "sh", "bash")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in links(page):
        file, _, part = target.partition("#")
        there = (page.parent / file).resolve() if file else page
        assert there.exists(), target
        if part and there.suffix == ".md":
            assert part in map(anchor, headings(there)), target


@pytest.fixture(scope="module")
def namespace(api_server: ApiServer) -> str:
    return api_server.namespace()


class TestExamples:
    @pytest.mark.parametrize("block", EXAMPLES, ids=str)
    def test_an_api_server_takes_them(self, api_server: ApiServer, namespace: str, block: Block) -> None:
        api_server.kubectl(*DRY_RUN, "-n", namespace, "-f", "-", stdin=block.text)

    @pytest.mark.parametrize("block", EXAMPLES, ids=str)
    def test_the_models_take_them(self, block: Block) -> None:
        for document in yaml.safe_load_all(block.text):
            if document["kind"] == KIND:
                ChatbotDeployment.model_validate(document, by_alias=True, by_name=False)

    def test_there_are_some(self) -> None:
        assert len(EXAMPLES) >= 3


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: str(sample.stem))
class TestSamples:
    def test_an_api_server_takes_them(self, api_server: ApiServer, namespace: str, sample: Path) -> None:
        text = sample.read_text(encoding="utf-8")
        documents = list(yaml.safe_load_all(text))
        for document in documents:
            if document["kind"] == "Namespace":  # else nothing is taken for it, because it is not there
                text = re.sub(
                    rf"^(  name(space)?): {document['metadata']['name']}$", rf"\1: {namespace}", text, flags=re.M
                )
        where = () if any(item["kind"] == "Namespace" for item in documents) else ("-n", namespace)
        api_server.kubectl(*DRY_RUN, *where, "-f", "-", stdin=text)

    def test_what_they_ask_for_can_be_planned(self, sample: Path) -> None:
        for document in yaml.safe_load_all(sample.read_text(encoding="utf-8")):
            if document["kind"] == KIND:
                told = Cluster(make_bot(document["spec"])).converge().report()
                assert [item.status for item in told.conditions if item.type == "Ready"] == ["True"]


def test_there_is_a_sample_of_each_kind() -> None:
    assert {"minimal", "production", "external-stores", "many-tenants"} <= {sample.stem for sample in SAMPLES}


class TestManyTenants:
    """What the chart does not give where it watches some namespaces only."""

    documents = (*yaml.safe_load_all((ROOT / "k8s/samples/many-tenants.yaml").read_text(encoding="utf-8")),)

    def test_who_edits_a_namespace_edits_its_chatbots(self) -> None:
        roles = {
            (item["metadata"]["namespace"], item["metadata"]["name"])
            for item in self.documents
            if item["kind"] == "Role"
            and any(
                {"chatbotdeployments"} == {*rule["resources"]} and "patch" in rule["verbs"] for rule in item["rules"]
            )
        }
        bindings = [item for item in self.documents if item["kind"] == "RoleBinding"]
        may = {
            (item["metadata"]["namespace"], item["roleRef"]["name"], item["subjects"][0]["name"]) for item in bindings
        }
        teams = {(namespace, team) for namespace, role, team in may if role == "edit"}
        assert len(teams) == 2
        assert teams == {(namespace, team) for namespace, role, team in may if (namespace, role) in roles}

    def test_no_team_makes_a_pod_that_reads_the_others_metrics(self) -> None:
        bots = [item["spec"] for item in self.documents if item["kind"] == KIND]
        assert all(peer["namespaceSelector"] for spec in bots for peer in spec["network"]["metricsFrom"])
        assert len(bots) == 2


@pytest.mark.parametrize("block", COMMANDS, ids=str)
def test_commands_set_values_that_the_chart_has(block: Block) -> None:
    known = {
        value.name for value in every(chartvalues.read((ROOT / "charts/chatbot-operator/values.yaml").read_text()))
    }
    for name in re.findall(r"--set(?:-json|-string)?[ =]'?([A-Za-z.]+)", block.text):
        assert name in known


def every(values: list[chartvalues.Value]) -> list[chartvalues.Value]:
    return [found for value in values for found in (value, *every(value.inner))]
