"""A wrong FAQ text is named with the line of the resource file, the entry and the field."""

import pytest
from chatbot_resource.documents import InvalidFile, parse

HEAD = """\
apiVersion: chatbot-operator.io/v1alpha1
kind: ChatbotDeployment
metadata: {name: demo}
spec:
  profile: Dev
  knowledge: {faqRef: {name: texts, key: faqs.yaml}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: texts}
data:
  other: |
    nobody: [reads this
  faqs.yaml: """


def mistakes(faqs: str) -> list[str]:
    with pytest.raises(InvalidFile) as caught:
        parse(HEAD + faqs, "f.yaml")
    return str(caught.value).splitlines()


class TestFaqs:
    def test_a_misspelt_field_and_what_is_missing_for_it(self) -> None:
        text = "|\n\n    - question: A?\n      answer: A\n    - question: B?\n      anwser: B\n"
        assert mistakes(text) == [
            "f.yaml:18: data.faqs.yaml entry 2 answer: is missing",
            "f.yaml:19: data.faqs.yaml entry 2 anwser: unknown field; did you mean answer?",
        ]

    def test_broken_yaml(self) -> None:
        (line,) = mistakes("|\n    - question: [When\n      answer: A\n")
        assert line.startswith("f.yaml:16: data.faqs.yaml: not valid YAML:")

    def test_the_same_question_twice(self) -> None:
        (line,) = mistakes("|\n    - {question: A, answer: A}\n    - {question: a, answer: B}\n")
        assert line == "f.yaml:16: data.faqs.yaml entry 2: has the slug a, as entry 1 has"

    def test_a_text_in_quotes_has_one_place(self) -> None:
        (line,) = mistakes('"- {question: A,\\n answer: 5}"\n')
        assert line == "f.yaml:14: data.faqs.yaml entry 1 answer: must be text, not a number; put it in quotes"

    def test_a_right_one_passes(self) -> None:
        assert parse(HEAD + "|\n    - {question: A, answer: A}\n", "f.yaml").bot.name == "demo"

    def test_merged_keys_that_would_fill_any_memory(self) -> None:
        first = "    - &a0 {" + ", ".join(f"k{number}: 1" for number in range(10)) + "}\n"
        more = [f"    - &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}\n" for n in range(1, 20)]
        (line,) = mistakes("|\n" + first + "".join(more))
        assert line == "f.yaml:17: data.faqs.yaml: not valid YAML: more than 100 keys in one"
