"""Settings of the tests' site; `LOOPAI_TEST_DATABASE` chooses sqlite, postgresql or mariadb."""

import os
import tempfile

SECRET_KEY = "not a secret: a test's"
DEBUG = False
ALLOWED_HOSTS = ["*"]
USE_TZ = True
ROOT_URLCONF = "mailsite.urls"
WSGI_APPLICATION = "mailsite.wsgi.application"
STATIC_URL = "static/"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "loopai.contrib.django",
    "inbox",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
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


def _mariadb() -> dict[str, object]:
    import pymysql

    pymysql.install_as_MySQLdb()
    wait = os.environ.get("MAILSITE_LOCK_WAIT")
    options = {"init_command": f"SET SESSION innodb_lock_wait_timeout = {wait}"} if wait else {}
    return {
        "ENGINE": "django.db.backends.mysql",
        "HOST": "127.0.0.1",
        "USER": "root",
        "NAME": os.environ.get("MAILSITE_DATABASE", "test"),
        "OPTIONS": {"charset": "utf8mb4", **options},
        "TEST": {"NAME": f"test_loopai_{os.getpid()}", "CHARSET": "utf8mb4"},
    }


_DATABASES = {
    "sqlite": lambda: {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("MAILSITE_SQLITE", ":memory:"),
        "OPTIONS": {"timeout": float(os.environ.get("MAILSITE_TIMEOUT", "20"))},
        # A file: threads do not share a database in memory.
        "TEST": {"NAME": os.path.join(tempfile.gettempdir(), f"loopai-tests-{os.getpid()}.sqlite3")},
    },
    "postgresql": lambda: {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": "127.0.0.1",
        "USER": "postgres",
        "NAME": os.environ.get("MAILSITE_DATABASE", "test"),
        "TEST": {"NAME": f"test_loopai_{os.getpid()}"},
    },
    "mariadb": _mariadb,
}
KIND = os.environ.get("LOOPAI_TEST_DATABASE") or "sqlite"
DATABASES = {"default": _DATABASES[KIND]()}


def _replica(name: str) -> dict[str, object]:
    """The same server's database of that name: the site's own, which refuses writes, or a copy of it."""
    made = {**DATABASES["default"], "NAME": name}
    if name == DATABASES["default"]["NAME"]:
        if KIND == "sqlite":
            made["NAME"] = f"file:{name}?mode=ro"
        made["OPTIONS"] = {
            "sqlite": {"timeout": 20, "uri": True},
            "postgresql": {"options": "-c default_transaction_read_only=on"},
            "mariadb": {"charset": "utf8mb4", "init_command": "SET SESSION TRANSACTION READ ONLY"},
        }[KIND]
    return made


if os.environ.get("MAILSITE_REPLICA"):
    DATABASES["replica"] = _replica(os.environ["MAILSITE_REPLICA"])
    DATABASE_ROUTERS = ["mailsite.routers.PrimaryReplica"]
if os.environ.get("MAILSITE_OTHER"):
    DATABASES["other"] = {**DATABASES["default"], "NAME": os.environ["MAILSITE_OTHER"]}
if os.environ.get("MAILSITE_ROUTER"):
    DATABASE_ROUTERS = [os.environ["MAILSITE_ROUTER"]]

LOOPAI = {
    "default": {
        "BASE_URL": os.environ.get("MAILSITE_UPSTREAM", "http://upstream.test"),
        "MAX_RETRIES": int(os.environ.get("MAILSITE_MAX_RETRIES", "0")),
        "TASKS": {"spam": "7f1c2a34-5b6d-4e7f-8a90-1b2c3d4e5f60"},
        "WEBHOOK_SECRETS": ["new secret", "old secret"],
    },
    "other": {"BASE_URL": "https://other.test/loopai", "WEBHOOK_SECRETS": ["other secret"]},
}
