import ast
import random

import pytest

from data_pipelines.config import RedactSection
from data_pipelines.redact.key import redaction_key
from data_pipelines.redact.pack import default_pack
from data_pipelines.redact.redactor import Redactor, count_placeholders
from finetune.contracts.errors import InputError

RANDOM = random.Random(7)
ALPHANUMERIC = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


def word(length, alphabet=ALPHANUMERIC):
    return "".join(RANDOM.choice(alphabet) for _ in range(length))


def upper(length):
    return word(length, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")


def hexa(length):
    return word(length, "0123456789abcdef")


def redactor(key=b"k" * 32, **section):
    return Redactor(RedactSection.model_validate(section), key)


def pem(kind, lines=6):
    body = "\n".join(word(64) for _ in range(lines))
    return f"-----BEGIN {kind}-----\n{body}\n-----END {kind}-----"


# (rule, a line of Python, what must be gone from it); every secret is made up on the spot
FAKES = [
    (rule, line.replace("{}", secret), secret)
    for rule, line, secret in (
        ("private-key", 'KEY = """{}"""', pem("RSA PRIVATE KEY")),
        ("private-key", "KEY = '''{}'''", pem("PRIVATE KEY")),
        ("private-key", 'KEY = """{}"""', pem("OPENSSH PRIVATE KEY", 12)),
        ("private-key", 'KEY = """{}"""', pem("PGP PRIVATE KEY BLOCK")),
        ("private-key", 'KEY = "{}"', pem("EC PRIVATE KEY").replace("\n", "\\n")),
        ("age-key", 'KEY = "{}"', "AGE-SECRET-KEY-1" + word(58, "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L")),
        ("jwt", 'send("{}")', f"eyJ{word(20)}.eyJ{word(60)}.{word(43)}"),
        ("aws-access-key-id", 'client(id="{}")', "AKIA" + upper(16)),
        ("aws-secret-key", 'aws_secret_access_key = "{}"', word(40)),
        ("github-token", 'clone("{}")', "ghp_" + word(36)),
        ("github-token", 'clone("{}")', f"github_pat_{word(22)}_{word(59)}"),
        ("gitlab-token", 'clone("{}")', "glpat-" + word(20)),
        ("slack-token", 'post("{}")', f"xoxb-{word(12, '0123456789')}-{word(24)}"),
        ("slack-app-token", 'post("{}")', f"xapp-1-{upper(11)}-123456-{hexa(40)}"),
        ("slack-webhook", 'post("https://hooks.slack.com/services/{}")', f"T{upper(8)}/B{upper(8)}/{word(24)}"),
        ("discord-webhook", 'post("https://discord.com/api/webhooks/{}")', f"{word(18, '123456789')}/{word(68)}"),
        ("stripe-key", 'pay("{}")', "sk_live_" + word(24)),
        ("google-api-key", 'maps("{}")', "AIza" + word(35)),
        ("google-oauth", 'maps("{}")', "ya29." + word(60)),
        ("model-api-key", 'ask("{}")', "sk-" + word(48)),
        ("model-api-key", 'ask("{}")', "hf_" + word(34, ALPHANUMERIC[:52])),
        ("package-index-token", 'upload("{}")', "npm_" + word(36)),
        ("sendgrid-key", 'mail("{}")', f"SG.{word(22)}.{word(43)}"),
        ("mail-service-key", 'mail("{}")', "key-" + hexa(32)),
        ("twilio-key", 'call("{}")', "SK" + hexa(32)),
        ("prefixed-service-token", 'run("{}")', "dapi" + hexa(32)),
        ("prefixed-service-token", 'run("{}")', "shpat_" + hexa(32)),
        ("vault-token", 'unseal("{}")', "hvs." + word(90)),
        ("telegram-bot", 'bot("{}")', f"123456789:AA{word(33)}"),
        (
            "discord-bot",
            'discord("{}")',
            f"M{word(23)}.{word(6)}.{word(38)}",
        ),
        (
            "putty-key",
            'KEY = """Private-Lines: 2\n{}\n"""',
            f"{word(64)}\n{word(64)}",
        ),
        (
            "teams-webhook",
            'post("https://corp.webhook.office.com/webhookb2/{}")',
            f"{hexa(36)}@{hexa(36)}/IncomingWebhook/{hexa(32)}",
        ),
        ("azure-key", 'store("AccountName=x;AccountKey={};Suffix=y")', word(86) + "=="),
        ("authorization-header", 'get(headers={"Authorization": "Bearer {}"})', word(40)),
        ("url-password", 'connect("postgresql://app:{}@db.corp/x")', "Winter-2024!"),
        ("connection-string-password", 'connect("jdbc:db://h/x?user=a&password={}")', "Winter.2024"),
        ("password-assignment", 'password = "{}"', "hunter2"),
        ("password-assignment", "DB_PASSWORD: str = '{}'", "correcthorse"),
        ("password-assignment", 'login(user, password="{}")', "letmein99"),
        ("password-assignment", 'settings = {"smtp_password": "{}"}', "S0mmer"),
        ("password-assignment", 'settings["password"] = "{}"', "S0mmer"),
        ("password-assignment", 'ok = passwd == "{}"', "opensesame"),
        ("password-argument", 'os.environ.setdefault("DB_PASSWORD", "{}")', "geheim12"),
        ("login-call", 'client.login("ada", "{}")', "geheim12"),
        ("secret-assignment", 'SECRET_KEY = "{}"', word(50)),
        ("secret-assignment", 'api_key = "{}"', hexa(32)),
        ("email", 'author = "{}"', "ada.byron@corp.io"),
    )
]


@pytest.mark.parametrize(("rule", "line", "secret"), FAKES, ids=[f"{rule}-{n}" for n, (rule, _, _) in enumerate(FAKES)])
def test_each_secret_goes_whole_and_python_still_parses(rule, line, secret):
    text = f"import os\n\n{line}\nlast = 1\n"
    ast.parse(text)
    done = redactor().redact(text)
    assert rule in done.hits, done
    ast.parse(done.text)
    assert done.text.count("\n") == text.count("\n"), "lines keep their numbers"
    pieces = [piece for piece in secret.replace("\\n", "\n").split("\n") if piece]
    assert not any(piece in done.text for piece in pieces)
    assert count_placeholders(done.text) >= 1
    assert redactor().redact(done.text).text == done.text, "a placeholder is never redacted again"


def test_every_rule_has_a_fake():
    assert {rule.id for rule in default_pack().rules} == {rule for rule, _, _ in FAKES}


@pytest.mark.parametrize(
    "line",
    [
        'password_field = "password"',
        'password = "password"',
        'password = ""',
        'password = getpass("Password: ")',
        'password = os.environ["PASSWORD"]',
        'password = "${DB_PASSWORD}"',
        'password = f"{user.password}"',
        'password = "<your password>"',
        'password = "********"',
        'parser.add_argument("--password", help="Password of the user")',
        'token_type = "authorization_code"',
        'secret_name = "projects/x/secrets/y1"',
        'token_url = "https://login.corp/oauth/token1"',
        'class TokenError: "a token is missing from here"',
        "x = a@b.T @ c",
        'name = "user@example.com"',
        'remote = "git@github.com:corp/shop.git"',
        'digest = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"',
        'uuid = "123e4567-e89b-12d3-a456-426614174000"',
        'url = "https://db.corp:8080/path@version"',
        "@app.route('/login')",
        'names = ("DB_PASSWORD", "DB_USER")',
        'headers = {"Authorization": f"Bearer {token}"}',
        "tokenizer = Tokenizer.from_pretrained('base-model-v2-large')",
    ],
)
def test_what_only_looks_like_a_secret_stays(line):
    assert redactor().redact(line + "\n").text == line + "\n"


def test_a_key_written_over_concatenated_strings_keeps_its_quotes():
    lines = pem("PRIVATE KEY", 3).split("\n")
    text = "KEY = (\n" + "".join(f'    "{line}\\n"\n' for line in lines) + ")\n"
    done = redactor().redact(text)
    ast.parse(done.text)
    assert not any(line in done.text for line in lines)


def test_the_same_secret_gets_the_same_placeholder_and_another_key_another_one():
    text = 'a = "AKIAQWERTYUIOPASDFGH"\nb = "AKIAQWERTYUIOPASDFGH"\nc = "AKIAQWERTYUIOPASDFGJ"\n'
    first, second, third = redactor().redact(text).text.split("\n")[:3]
    assert first[4:] == second[4:] != third[4:]
    assert redactor(b"other key, 32 bytes long ......").redact(text).text.split("\n")[0] != first
    assert redactor().author("A@b.io ") == redactor().author("a@b.io") != redactor(b"x" * 32).author("a@b.io")


def test_a_password_before_a_host_is_no_address():
    done = redactor().redact('proxy = "http://user:pass99@proxy.corp.com/x"\n')
    assert "@proxy.corp.com/x" in done.text
    assert "pass99" not in done.text


def test_what_is_switched_off_stays():
    text = 'password = "hunter2"\nmail = "ada@corp.io"\n'
    assert "hunter2" in redactor(secrets=False).redact(text).text
    assert "ada@corp.io" in redactor(emails=False).redact(text).text


def test_long_lines_take_linear_time():
    text = "password = '" + "a" * 150_000 + "\n" + "-----BEGIN PRIVATE KEY-----" * 2_000 + "://" * 20_000 + "\n"
    assert redactor().redact(text).text is not None


def test_keys_come_from_the_file_or_the_heads(tmp_path):
    (tmp_path / "key").write_bytes(b"k" * 32)
    (tmp_path / "short").write_bytes(b"k")
    assert redaction_key(RedactSection(key_file=tmp_path / "key"), [b"x"]) == b"k" * 32
    assert redaction_key(RedactSection(), [b"x"]) == redaction_key(RedactSection(), [b"x"])
    assert redaction_key(RedactSection(), [b"x"]) != redaction_key(RedactSection(), [b"y"])
    for name in ("short", "missing"):
        with pytest.raises(InputError, match=name):
            redaction_key(RedactSection(key_file=tmp_path / name), [])
