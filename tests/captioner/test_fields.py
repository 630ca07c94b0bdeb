"""Fields: what the schema allows is read, all else is refused by field, value and rule; values come out plain."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from captioner.fields import CAMERAS, SCHEMA, SHOT_TYPES, BadFields, CaptionFields, fields_of, to_json

GOOD: dict[str, Any] = {
    "subjects": ["a man in a red coat", "a dog"],
    "action": "The man walks.",
    "setting": "a beach",
    "background": "cliffs",
    "style": "documentary",
    "lighting": "soft daylight",
    "colors": ["blue", "gray"],
    "shot_type": "wide shot",
    "camera": "pan left",
    "text": ["SALE"],
}

texts = st.text(max_size=40)
answers = st.fixed_dictionaries(
    dict.fromkeys(("action", "setting", "background", "style", "lighting"), texts)
    | {name: st.lists(texts, max_size=6) for name in ("subjects", "colors", "text")}
    | {"shot_type": st.sampled_from(SHOT_TYPES), "camera": st.sampled_from(CAMERAS)}
)


def test_a_good_answer_is_read_whole() -> None:
    fields = fields_of(json.dumps(GOOD))
    assert json.loads(to_json(fields)) == GOOD
    assert fields.subjects[0] == "a man in a red coat"
    assert fields.camera == "pan left"


def test_the_schema_is_a_schema_with_bounds_everywhere() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["additionalProperties"] is False
    assert SCHEMA["required"] == list(CaptionFields.__dataclass_fields__) == list(SCHEMA["properties"])
    for name, rule in SCHEMA["properties"].items():
        bounded = rule.get("items", rule)
        assert "enum" in bounded or bounded["maxLength"] <= 240, name
        assert rule.get("type") != "array" or rule["maxItems"] <= 6, name


def test_fields_of_nothing_are_valid() -> None:
    assert fields_of(to_json(CaptionFields())) == CaptionFields()


@pytest.mark.parametrize("fence", ["```json\n{}\n```", "```\n{}```", "  ```JSON\n{}\n```\n"])
def test_a_code_fence_around_all_of_it_is_taken_off(fence: str) -> None:
    assert fields_of(fence.replace("{}", json.dumps(GOOD))) == fields_of(json.dumps(GOOD))


@pytest.mark.parametrize(
    ("answer", "field", "rule"),
    [
        ("", "answer", "JSON object"),
        ("null", "answer", "type object"),
        ("[]", "answer", "type object"),
        ("NaN", "answer", "type object"),
        ("The man walks.", "answer", "JSON object"),
        (json.dumps(GOOD) + " I hope this helps!", "answer", "JSON object"),
        (json.dumps(GOOD)[:-20], "answer", "JSON object"),
        ("```json\n{}\n``` and more", "answer", "JSON object"),
        ("[" * 9_000, "answer", "nested deeply"),
        ("9" * 9_000, "answer", "JSON object"),
        ("x" * 30_000, "answer", "at most 20000 characters"),
        ('{"action": "a", "action": "b"}', '"action"', "given once"),
        (json.dumps({**GOOD, "mood": "happy"}), '"mood"', "no such field"),
        (json.dumps({k: v for k, v in GOOD.items() if k != "style"}), "style", "must be given"),
        (json.dumps({**GOOD, "subjects": "a man"}), "subjects", "type array"),
        (json.dumps({**GOOD, "subjects": [None]}), "subjects[0]", "type string"),
        (json.dumps({**GOOD, "action": 3}), "action", "type string"),
        (json.dumps({**GOOD, "action": "a" * 241}), "action", "at most 240"),
        (json.dumps({**GOOD, "colors": ["red"] * 7}), "colors", "at most 6 items"),
        (json.dumps({**GOOD, "text": ["ok", "a" * 101]}), "text[1]", "at most 100"),
        (json.dumps({**GOOD, "camera": "dolly"}), "camera", "one of static"),
        (json.dumps({**GOOD, "shot_type": ""}), "shot_type", "one of extreme"),
    ],
)
def test_what_breaks_the_schema_is_refused_by_field_value_and_rule(answer: str, field: str, rule: str) -> None:
    with pytest.raises(BadFields) as caught:
        fields_of(answer)
    assert caught.value.field == field
    assert rule in caught.value.rule
    assert len(str(caught.value)) < 400, "messages go to logs and tables"
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("a\n\tdog  runs", "a dog runs"),
        ("a <b>big</b> dog", "a big dog"),
        ("a dog<script>alert(1)</script>", "a dog alert(1)"),
        ("&lt;i&gt;a dog&lt;/i&gt;", "a dog"),
        ("Tom &amp; Jerry", "Tom & Jerry"),
        ("a\u202edog\u0000\ud800", "adog"),
        ("**a dog**", "a dog"),
        ("3 < 4", "3 < 4"),
        ("une vache à lait", "une vache à lait"),
    ],
)
def test_values_come_out_plain(written: str, read: str) -> None:
    assert fields_of(json.dumps({**GOOD, "action": written})).action == read


def test_empty_and_repeated_items_are_dropped() -> None:
    fields = fields_of(json.dumps({**GOOD, "subjects": ["A dog", "", " a  dog", "<br>", "a cat"]}))
    assert fields.subjects == ("A dog", "a cat")


@given(answers)
def test_whatever_a_model_writes_within_the_schema_is_read_and_comes_back(answer: dict[str, Any]) -> None:
    fields = fields_of(json.dumps(answer))
    written = to_json(fields)
    written.encode()
    assert fields_of(written) == fields
    assert not any(c < " " or "\ud800" <= c <= "\udfff" or "\u202a" <= c <= "\u202e" for c in written)


@given(st.text(max_size=200))
def test_chance_text_is_refused_and_nothing_else_happens(text: str) -> None:
    with pytest.raises(BadFields):
        fields_of(text)
