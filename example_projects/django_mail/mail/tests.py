"""Tests with a fake in the place of the server: `python manage.py test`."""
# ruff: noqa: PT009  # Django's runner does not explain a bare assert

from __future__ import annotations

from django.test import TestCase
from django.urls import reverse

from loopai.contrib.django.testing import override_loopai
from loopai.testing import signed_webhook

from .models import Message, Notice
from .reading import excerpt, readable


@override_loopai()
class VerdictTests(TestCase):
    def setUp(self) -> None:
        self.spam = self.loopai_fake.task("spam")
        self.spam.computes(lambda mail: {"label": "spam" if "prize" in mail["body"] else "ham"})
        self.mail = Message.objects.create(source_id="1", subject="Good news", body="Claim your prize")

    def reclassify(self) -> str:
        """What the page says then."""
        page = self.client.post(reverse("mail:reclassify", args=[self.mail.pk]), follow=True)
        self.mail.refresh_from_db()
        return str(page.content.decode())

    def test_the_verdict_is_kept(self) -> None:
        self.assertIn("“Good news” is spam, judged in", self.reclassify())
        self.assertEqual(self.mail.label, "spam")
        self.assertEqual(self.spam.inputs, [{"subject": "Good news", "body": "Claim your prize"}])

    def test_without_a_server_the_verdict_stays(self) -> None:
        self.reclassify()
        self.loopai_fake.unreachable()
        self.assertIn("No verdict: ", self.reclassify())
        self.assertEqual(self.mail.label, "spam")

    async def test_the_async_view(self) -> None:
        address = reverse("mail:verdict")
        judged = await self.async_client.post(address, {"body": "Lunch?"}, content_type="application/json")
        self.assertEqual(judged.json()["label"], "ham")
        self.loopai_fake.unreachable()
        judged = await self.async_client.post(address, {"body": "Lunch?"}, content_type="application/json")
        self.assertEqual(judged.status_code, 503)


class PageTests(TestCase):
    def test_an_empty_inbox_says_what_to_do(self) -> None:
        self.assertContains(self.client.get(reverse("mail:inbox")), "manage.py import_mail")

    def test_what_is_judged_wrongly(self) -> None:
        for number, (label, known) in enumerate([("spam", "ham"), ("ham", "ham"), ("", "spam"), ("spam", "")]):
            Message.objects.create(source_id=number, subject=f"mail {number}", body="-", label=label, known=known)
        page = self.client.get(reverse("mail:inbox"), {"show": "mistaken"})
        self.assertEqual([str(mail) for mail in page.context["page"]], ["mail 0"])
        self.assertContains(page, "50.0 %")


class EventTests(TestCase):
    def test_an_event_becomes_a_notice(self) -> None:
        with self.settings(LOOPAI={"default": {"WEBHOOK_SECRETS": ["secret"]}}):
            delivery = signed_webhook("canaryRollback", secret="secret", severity="error", message="")
            reply = self.client.post(reverse("loopai:webhook"), **delivery.as_django())
        self.assertEqual(reply.status_code, 204)
        notice = Notice.objects.get()
        self.assertEqual((notice.text, notice.is_serious), ("A new version was taken back.", True))


class ReadingTests(TestCase):
    def test_html_is_read_without_its_tags(self) -> None:
        body = "<html><style>p {}</style><body><p>Dear&nbsp;you,<br>\n win\n now</p><script>x()</script></body></html>"
        self.assertEqual(readable(body), "Dear you,\nwin now")

    def test_text_keeps_its_lines(self) -> None:
        self.assertEqual(readable("a  \n\n\n\n  b < c"), "a\n\n  b < c")
        self.assertEqual(excerpt("one\ntwo " * 50, length=9), "one two…")
