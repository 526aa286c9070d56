"""`chatbot up` refuses the FAQ texts the worker refuses, and no others; else a bot is restarted into a broken one."""

from pathlib import Path

import pytest
from chatbot_conversation.knowledge.seeds import BadFaqFile, FaqSeed, read_faqs
from chatbot_resource.faqs import FaqEntry, check_faqs

GOOD = {
    "empty": "",
    "no entries": "[]",
    "least": "- {question: Q, answer: A}",
    "all": "- {question: Q, answer: A, category: C, keywords: [a], language: de, priority: 5, slug: s-1}",
    "number in quotes": '- {question: Q, answer: A, priority: "5"}',
    "null slug": "- {question: Q, answer: A, slug: null}",
    "key twice": "- {question: Q, answer: A, answer: B}",
    "no letters": "- {question: '???', answer: A}\n- {question: '!!!', answer: A}",
    "anchors": "- &a {question: Q, answer: A}\n- {<<: *a, question: P}",
}
BAD = {
    "misspelt": "- {question: Q, anwser: A}",
    "not YAML": "- question: [When\n  answer: A",
    "tab": "- question: Q\n\tanswer: A",
    "mapping": "question: Q\nanswer: A",
    "text": "hello",
    "entry is text": "- hello",
    "empty answer": "- {question: Q, answer: ''}",
    "answer is a number": "- {question: Q, answer: 5}",
    "NUL": '- {question: Q, answer: "a\\0b"}',
    "long question": f"- {{question: {'x' * 1001}, answer: A}}",
    "long answer": f"- {{question: Q, answer: {'x' * 20_001}}}",
    "long category": f"- {{question: Q, answer: A, category: {'x' * 101}}}",
    "keywords are text": "- {question: Q, answer: A, keywords: a}",
    "long language": f"- {{question: Q, answer: A, language: {'x' * 36}}}",
    "priority": "- {question: Q, answer: A, priority: 1001}",
    "slug": "- {question: Q, answer: A, slug: a b}",
    "same question": "- {question: Q, answer: A}\n- {question: q, answer: B}",
    "same slug": "- {question: Q, answer: A, slug: s}\n- {question: S, answer: B}",
    "cut slug": f"- {{question: {'x' * 101}, answer: A}}\n- {{question: {'x' * 102}, answer: B}}",
    "two documents": "- {question: Q, answer: A}\n---\n- {question: P, answer: A}",
    "unknown alias": "- *nothing",
}


@pytest.mark.parametrize("text", GOOD.values(), ids=GOOD.keys())
def test_both_take(text: str, tmp_path: Path) -> None:
    file = tmp_path / "faqs.yaml"
    file.write_text(text)
    assert check_faqs(text) == []
    read_faqs(file)


@pytest.mark.parametrize("text", BAD.values(), ids=BAD.keys())
def test_both_refuse(text: str, tmp_path: Path) -> None:
    file = tmp_path / "faqs.yaml"
    file.write_text(text)
    assert check_faqs(text)
    with pytest.raises(BadFaqFile):
        read_faqs(file)


def test_both_know_the_same_fields() -> None:
    ours, theirs = FaqEntry.model_json_schema(), FaqSeed.model_json_schema()
    assert {key: ours[key] for key in ("properties", "required", "additionalProperties")} == {
        key: theirs[key] for key in ("properties", "required", "additionalProperties")
    }
