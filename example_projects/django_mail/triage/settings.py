"""Settings for a developer's machine. What is loopai's: one application, and `LOOPAI`."""

import os
from pathlib import Path

BASE_DIR = Path(__file__).parents[1]
DATA = Path(os.environ.get("MAIL_DATA", BASE_DIR / "var"))
DATA.mkdir(parents=True, exist_ok=True)

SECRET_KEY = os.environ.get("SECRET_KEY", "for a developer's machine only")
DEBUG = True
ALLOWED_HOSTS = ["localhost", "127.0.0.1"]

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.humanize",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "loopai.contrib.django",
    "mail",
]

TASKS = DATA / "tasks"  # `manage.py make_filter` leaves the task's id there: spam=<id>

LOOPAI = {
    "default": {
        # A server inside this process, which keeps its data in this folder; or the one that LOOPAI_BASE_URL names.
        "LOCAL": not os.environ.get("LOOPAI_BASE_URL") and DATA / "loopai",
        "TASKS": os.environ.get("LOOPAI_TASKS") or (TASKS.read_text() if TASKS.exists() else ""),
        "DEADLINE": 60,  # seconds, all attempts of a call; a page waits no longer
    }
}
if DEBUG:  # elsewhere, what the subscription at your server was given
    os.environ.setdefault("LOOPAI_WEBHOOK_SECRETS", "a secret to try it with")

# Only for `loopai_batch … --engine celery`.
CELERY_BROKER_URL = os.environ.get("CELERY_BROKER_URL", "redis://127.0.0.1:6379/0")
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {"visibility_timeout": 300}  # seconds until another worker gets a killed one's part
CELERY_TASK_DEFAULT_QUEUE = os.environ.get("CELERY_QUEUE", "mail")
CELERY_WORKER_PREFETCH_MULTIPLIER = 1  # so that parts go to free workers

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": DATA / "mail.sqlite3",
        "OPTIONS": {"timeout": 20, "transaction_mode": "IMMEDIATE", "init_command": "PRAGMA journal_mode = WAL"},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "triage.urls"
ASGI_APPLICATION = "triage.asgi.application"
WSGI_APPLICATION = "triage.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
# In a cookie, so that async views, too, show messages without asking the database.
MESSAGE_STORAGE = "django.contrib.messages.storage.cookie.CookieStorage"
STATIC_URL = "static/"
LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
