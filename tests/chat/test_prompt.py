"""The prompt: parts, languages, and the window it must fit."""

from chatbot_chat.citations import citations_of
from chatbot_chat.conversation_client import HistoryMessage, Knowledge, Passage
from chatbot_chat.prompt import DEFAULT_PROMPT, build_request, fit, system_prompt
from chatbot_chat.settings import DeploymentSettings, ModelSettings
from chatbot_chat.tokens import estimate_tokens
from chatbot_common.ids import uuid7
from hypothesis import given
from hypothesis import strategies as st

histories = st.lists(
    st.builds(HistoryMessage, role=st.sampled_from(["user", "assistant"]), text=st.text(max_size=60)), max_size=12
)


def model(window: int = 8000, output: int = 500) -> ModelSettings:
    deployment = DeploymentSettings(provider="p", model="m", weight=1)
    return ModelSettings(name="m", deployments=[deployment], context_window=window, max_output_tokens=output)


def passage(title: str, score: float = 0.8) -> Passage:
    return Passage(id=uuid7(), kind="faq", title=title, text=f"About {title}", url=None, score=score)


class TestFit:
    @given(histories, st.integers(-10, 200))
    def test_newest_whole_messages_within_the_budget(self, history: list[HistoryMessage], budget: int) -> None:
        kept = fit(history, budget)
        assert kept == history[len(history) - len(kept) :]
        assert sum(estimate_tokens(message.text) for message in kept) <= max(budget, 0)
        assert not kept or kept[0].role == "user"


class TestBuild:
    def test_answer_and_history_are_two_budgets(self) -> None:
        history = [HistoryMessage(role="user", text="x" * 400), HistoryMessage(role="user", text="y" * 40)]
        request = build_request(model(window=600, output=500), system="s", question="q", history=history)
        assert request.max_tokens == 500
        assert [message.content for message in request.messages[1:]] == ["y" * 40, "q"]

    def test_a_client_cannot_raise_the_answer_above_the_models_bound(self) -> None:
        assert build_request(model(output=500), system="", question="q", max_tokens=9000).max_tokens == 500

    def test_far_passages_are_left_out(self) -> None:
        knowledge = Knowledge(passages=[passage("near"), passage("far", 0.1)])
        system = build_request(model(), system="s", question="q", knowledge=knowledge).messages[0].content
        assert "[1] near" in system
        assert "far" not in system


class TestLanguage:
    def test_exact_base_english_any_built_in(self) -> None:
        prompts = {"de": "Deutsch", "en": "English"}
        assert system_prompt(prompts, "de") == "Deutsch"
        assert system_prompt(prompts, "de-AT") == "Deutsch"
        assert system_prompt(prompts, "fr") == "English"
        assert system_prompt({"de": "Deutsch"}, "fr") == "Deutsch"
        assert system_prompt({}, "fr") == DEFAULT_PROMPT


class TestCitations:
    def test_only_what_is_named_once_and_in_order(self) -> None:
        knowledge = Knowledge(passages=[passage("a"), passage("b")])
        assert [item["title"] for item in citations_of("See [2], then [1] and [2]; not [7].", knowledge)] == ["b", "a"]
