"""E-mails, their verdicts, and the pages that show them."""
