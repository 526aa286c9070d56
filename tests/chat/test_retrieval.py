"""What the bot says without a model."""

import pytest
from chatbot_chat.conversation_client import Knowledge, Passage
from chatbot_chat.providers.retrieval import answer
from chatbot_common.ids import uuid7


def passage(text: str, score: float, title: str = "Title", keywords: tuple[str, ...] = ()) -> Passage:
    return Passage(id=uuid7(), kind="faq", title=title, text=text, keywords=list(keywords), url=None, score=score)


KNOWN = Knowledge(
    passages=[passage("From 9 to 17.", 0.7), passage("Also on Sundays.", 0.65, "Sundays"), passage("Unrelated.", 0.2)],
    topics=["Visits", "Orders"],
    questions=["When?", "How?"],
)
UNKNOWN = KNOWN.model_copy(update={"passages": [passage("Unrelated.", 0.2)]})


class TestQuestions:
    @pytest.mark.parametrize(
        "question",
        [
            "Hi! When are you open?",
            "Hello, when are you open?",
            "Hey, can I bring my dog?",
            "help me with wifi",
            "Good morning, is there parking?",
            "ok where can I park",
            "Okay how do I cancel",
            "What is this month's price?",
        ],
    )
    def test_are_answered_however_politely_they_begin(self, question: str) -> None:
        assert answer(question, KNOWN).startswith("From 9 to 17. [1]")

    @pytest.mark.parametrize("question", ["dog", "dog?", "DOGS"])
    def test_short_ones_fit_by_a_shared_word(self, question: str) -> None:
        known = Knowledge(passages=[passage("Dogs are welcome.", 0.3, "Can I bring my dog?")])
        assert answer(question, known).startswith("Dogs are welcome.")

    @pytest.mark.parametrize("question", ["internet", "The internet?", "WiFi password?"])
    def test_that_are_nothing_but_keywords_fit_however_far_they_seem(self, question: str) -> None:
        keywords = ("wifi", "internet", "password")
        known = Knowledge(passages=[passage("Join harbour-members.", 0.18, "How do I connect?", keywords)])
        assert answer(question, known).startswith("Join harbour-members.")

    def test_a_keyword_is_a_shared_word_and_no_more(self) -> None:
        known = [Knowledge(passages=[passage("120 a month.", score, keywords=("price",))]) for score in (0.3, 0.2)]
        said = [answer("What is the price of tea in China?", knowledge) for knowledge in known]
        assert said[0].startswith("120 a month.")
        assert said[1].startswith("I do not know")

    def test_a_shared_word_is_not_enough_when_the_subject_is_far(self) -> None:
        known = Knowledge(passages=[passage("Dogs are welcome.", 0.1, "Can I bring my dog?")])
        assert answer("Which dog was first in space?", known).startswith("I do not know")

    def test_headings_of_a_document_are_not_read_out(self) -> None:
        known = Knowledge(passages=[passage("# Zurich\n\nOpens at eight.", 0.7)])
        assert answer("When does Zurich open?", known) == "Opens at eight. [1]"

    def test_near_passages_are_pointed_at_and_far_ones_are_not(self) -> None:
        said = answer("When?", KNOWN)
        assert "Sundays [2]" in said
        assert "[3]" not in said

    def test_nothing_near_is_said_plainly(self) -> None:
        said = answer("Who won in 1972?", UNKNOWN)
        assert said.startswith("I do not know")
        assert "- When?" in said


class TestTalk:
    @pytest.mark.parametrize(
        "greeting", ["Hi", "hello!", "Hey there", "Good morning", "Guten Tag", "What can you do?", "help"]
    )
    def test_greeting(self, greeting: str) -> None:
        said = answer(greeting, UNKNOWN)
        assert said.startswith("Hello!")
        assert "Visits and Orders" in said
        assert "- How?" in said

    @pytest.mark.parametrize("thanks", ["thanks", "Thank you!", "ok, thanks", "Danke", "great"])
    def test_thanks(self, thanks: str) -> None:
        assert answer(thanks, UNKNOWN).startswith("You are welcome")

    def test_empty_knowledge(self) -> None:
        assert "still empty" in answer("Hi", Knowledge())
