"""Receiving webhooks: what is let in, and what is refused with which words."""

from __future__ import annotations

import doctest
import hmac
import json
import pickle
import traceback
from typing import Any

import pytest

from loopai import ConfigurationError, webhooks
from loopai.testing import signed_webhook

SECRET = "s3cret"
BODY = (
    b'{"id":"af1b2c3d-4e5f-4061-8273-940516273849","event_type":0,'
    b'"task_id":"7f1c2a34-5b6d-4e7f-8a90-1b2c3d4e5f60","program_id":null,"message":"Program execution failed",'
    b'"data":null,"timestamp":"2025-11-03T08:15:30.1234567Z","severity":null}'
)
# By `openssl dgst -sha256 -hmac s3cret`.
SIGNATURE = "sha256=813d1f971f123b4f802a951fb325424883c73f7f90656e738e3a537920291e36"


def delivery(**members: Any) -> bytes:
    return json.dumps({**json.loads(BODY), **members}).encode()


def headers(body: bytes, **others: str) -> dict[str, str]:
    return {"X-Loopai-Signature": webhooks.sign(body, SECRET), **others}


def test_the_example_in_the_docs_runs() -> None:
    """The module's own example gives what it says."""
    found = doctest.testmod(webhooks)
    assert found.attempted
    assert not found.failed


def test_signs_as_openssl_does() -> None:
    """The signature is the hexadecimal HMAC-SHA256 of the body under the secret in UTF-8."""
    assert webhooks.sign(BODY, SECRET) == SIGNATURE


def test_verifies_what_it_signed_and_nothing_else() -> None:
    """One changed byte in body, signature or secret is enough to be refused."""
    assert webhooks.verify(BODY, SIGNATURE, SECRET)
    assert not webhooks.verify(BODY + b" ", SIGNATURE, SECRET)
    assert not webhooks.verify(BODY, SIGNATURE, "s3cres")
    for number in range(len(SIGNATURE)):
        changed = SIGNATURE[:number] + ("0" if SIGNATURE[number] != "0" else "1") + SIGNATURE[number + 1 :]
        assert not webhooks.verify(BODY, changed, SECRET)


@pytest.mark.parametrize("signature", [None, "", "sha256=", SIGNATURE[7:], SIGNATURE.upper(), "ä", "\ud800", "sha1=00"])
def test_what_is_no_signature_is_false_and_no_error(signature: str | None) -> None:
    """Whatever stands in the header, `verify` answers."""
    assert not webhooks.verify(BODY, signature, SECRET)


@pytest.mark.parametrize("secrets", [["new", SECRET], [SECRET, "new"], ("a", "b", SECRET), {SECRET, "new"}])
def test_while_secrets_rotate_any_of_them_fits(secrets: Any) -> None:
    """The old and the new secret are given together, in any order and kind of collection."""
    assert webhooks.verify(BODY, SIGNATURE, secrets)
    assert webhooks.verify(BODY, SIGNATURE, iter(secrets))


def test_every_secret_is_tried_even_after_one_fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time taken does not tell which secret fitted: all are compared, each in constant time."""
    compared = []
    real = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda *both: compared.append(both) or real(*both))
    assert webhooks.verify(BODY, SIGNATURE, [SECRET, "second", "third"])
    assert len(compared) == 3


@pytest.mark.parametrize("body", ["text", bytearray(b"{}"), {"id": 1}, None])
def test_only_the_raw_bytes_are_taken(body: Any) -> None:
    """A decoded or parsed body is refused with the words where the raw one is found."""
    with pytest.raises(TypeError, match="pass the raw body as bytes"):
        webhooks.sign(body, SECRET)
    with pytest.raises(TypeError, match=r"request\.body in Django"):
        webhooks.verify(body, SIGNATURE, SECRET)


@pytest.mark.parametrize("secrets", ["", "  ", [], [SECRET, ""], ()])
def test_an_empty_secret_is_wrong_configuration(secrets: Any) -> None:
    """No secret and an empty one are refused: with them anybody could sign."""
    with pytest.raises(ConfigurationError, match="anybody could"):
        webhooks.verify(BODY, SIGNATURE, secrets)


@pytest.mark.parametrize("secrets", [b"s3cret", [b"s3cret"], [None]])
def test_a_secret_is_a_text(secrets: Any) -> None:
    """Bytes are not taken for a list of numbers, nor `None` for a secret."""
    with pytest.raises(TypeError, match="secret is a text"):
        webhooks.verify(BODY, SIGNATURE, secrets)


@pytest.mark.parametrize(
    ("written", "in_header", "fits"),
    [
        (6, "TaskArchived", True),
        (6, "CanaryRollback", False),
        ("taskArchived", "TaskArchived", True),
        ("taskArchived", "TaskRestored", False),
        ("taskArchived", "CanaryRollback", False),
        (3, "TaskArchived", False),
    ],
)
def test_an_event_type_of_a_newer_server(written: Any, in_header: str, fits: bool) -> None:
    """It is kept as it was written, where the header does not name another type."""
    body = delivery(event_type=written)
    told = headers(body, **{"X-Loopai-Event-Type": in_header})
    if not fits:
        with pytest.raises(webhooks.MismatchError):
            webhooks.parse_event(body, told, SECRET)
    else:
        assert webhooks.parse_event(body, told, SECRET).event_type == written


@pytest.mark.parametrize("written", [3, "canaryRollback", "CanaryRollback"])
def test_an_event_type_is_read_as_number_camel_case_and_pascal_case(written: Any) -> None:
    """However the server writes the type, it compares equal to its camelCase name."""
    body = delivery(event_type=written)
    for in_header in ("3", "canaryRollback", "CanaryRollback"):
        event = webhooks.parse_event(body, headers(body, **{"X-Loopai-Event-Type": in_header}), SECRET)
        assert event.event_type == "canaryRollback"


def test_parses_a_delivery_under_any_spelling_of_header_names() -> None:
    """Frameworks spell header names each in their way."""
    sent = signed_webhook("programImproved", secret=SECRET, message="Version 2 is out", severity="info")
    for spelled in (str.lower, str.upper, str.title):
        named = {spelled(name): text for name, text in sent.headers.items()}
        event = webhooks.parse_event(sent.body, named, ["other", SECRET])
        assert (event.event_type, event.message, event.severity) == ("programImproved", "Version 2 is out", "info")


def test_headers_beside_the_signature_may_be_missing() -> None:
    """Only the body is signed, so what it says needs no header to confirm it."""
    assert str(webhooks.parse_event(BODY, headers(BODY), SECRET).id) == "af1b2c3d-4e5f-4061-8273-940516273849"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Loopai-Event-Id", "00000000-0000-4000-8000-000000000000"),
        ("X-Loopai-Event-Id", "no id"),
        ("X-Loopai-Event-Type", "CanaryRollback"),
        ("X-Loopai-Event-Type", "somethingElse"),
    ],
)
def test_a_header_that_differs_from_the_body_is_refused(name: str, value: str) -> None:
    """An old delivery sent again under a new id has the old signature, and does not pass."""
    with pytest.raises(webhooks.MismatchError, match=name):
        webhooks.parse_event(BODY, headers(BODY, **{name: value}), SECRET)


def test_a_second_header_of_another_case_does_not_hide_the_first() -> None:
    """Of two event ids both must agree, and two signatures are none."""
    right, wrong = "af1b2c3d-4e5f-4061-8273-940516273849", "00000000-0000-4000-8000-000000000000"
    with pytest.raises(webhooks.MismatchError):
        webhooks.parse_event(BODY, headers(BODY, **{"X-Loopai-Event-Id": wrong, "x-loopai-event-id": right}), SECRET)
    with pytest.raises(webhooks.SignatureError):
        webhooks.parse_event(BODY, headers(BODY, **{"x-loopai-signature": SIGNATURE}), SECRET)


def test_the_signature_is_asked_before_anything_is_read() -> None:
    """What nobody signed is not parsed: garbage without a signature is a signature error."""
    with pytest.raises(webhooks.SignatureError, match="has no X-Loopai-Signature"):
        webhooks.parse_event(b"\xff", {}, SECRET)
    with pytest.raises(webhooks.SignatureError, match="fits none of the secrets"):
        webhooks.parse_event(b"\xff", {"X-Loopai-Signature": SIGNATURE}, SECRET)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "Invalid JSON"),
        (b"\xff\xfe", "Invalid JSON"),
        (b'{"id":', "Invalid JSON"),
        (b"[" * 100_000, "Invalid JSON"),
        (b"[]", "should be an object"),
        (delivery(event_type=-17), "event_type"),
        (delivery(event_type=""), "event_type"),
        (delivery(id="x"), "id: "),
        (b'{"event_type":0,"timestamp":"2025-11-03T08:15:30Z"}', "id: Field required"),
    ],
)
def test_a_signed_body_that_is_no_event_says_where(body: bytes, told: str) -> None:
    """The message names the member that is wrong."""
    with pytest.raises(webhooks.PayloadError, match=told):
        webhooks.parse_event(body, headers(body), SECRET)


def test_what_a_later_server_adds_is_kept() -> None:
    """Members that this version does not know are no error."""
    body = delivery(region="eu")
    assert webhooks.parse_event(body, headers(body), SECRET).region == "eu"  # type: ignore[attr-defined]  # of the body


@pytest.mark.parametrize(
    ("body", "given"),
    [
        (BODY, {}),
        (BODY, {"X-Loopai-Signature": "sha256=00"}),
        (b"{}", {"X-Loopai-Signature": webhooks.sign(b"{}", SECRET)}),
        (BODY, {"X-Loopai-Signature": SIGNATURE, "X-Loopai-Event-Id": "x"}),
    ],
)
def test_refusals_pickle_and_show_neither_secret_nor_signature(body: bytes, given: dict[str, str]) -> None:
    """An error may be logged, sent to an error tracker with its variables, or handed to another process."""
    with pytest.raises(webhooks.WebhookError) as caught:
        webhooks.parse_event(body, given, ["".join(SECRET)])
    error = caught.value
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), copy.args) == (type(error), error.args)
    assert error.__traceback__ is not None
    frames = traceback.TracebackException(
        type(error), error, error.__traceback__.tb_next, capture_locals=True, compact=False
    )
    shown = "".join(frames.format())
    right = webhooks.sign(body, SECRET)
    assert SECRET not in shown
    assert right not in shown or right in given.values()
