import ast
import random
from importlib.resources import files

import pytest

from data_pipelines.config import RedactSection
from data_pipelines.redact.form import Form, form_of
from data_pipelines.redact.key import redaction_key
from data_pipelines.redact.pack import RulePack, default_pack
from data_pipelines.redact.redactor import Redactor, ScanFailed, count_placeholders
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
        ("password-assignment", 'password = "{}"', "summer.hot2024"),
        ("password-assignment", "DB_PASSWORD: str = '{}'", "correcthorse"),
        ("password-assignment", 'login(user, password="{}")', "letmein99"),
        ("password-assignment", 'settings = {"smtp_password": "{}"}', "S0mmer"),
        ("password-assignment", 'settings["password"] = "{}"', "S0mmer"),
        ("password-assignment", 'ok = passwd == "{}"', "opensesame"),
        ("password-argument", 'os.environ.setdefault("DB_PASSWORD", "{}")', "geheim12"),
        ("dsn-password", 'connect("host=db user=a password={} dbname=x")', "Winter.2024"),
        ("password-escaped-json", 'body = "{\\"password\\": \\"{}\\"}"', "Winter.2024"),
        ("password-default", 'pw = os.environ.get("DB_PASSWORD") or "{}"', "geheim12"),
        ("password-wrapped", 'password = SecretStr("{}")', "geheim12"),
        ("password-list", 'PASSWORDS = ["{}", "geheim13"]', "geheim12"),
        ("auth-pair", 'get(url, auth=("ada", "{}"))', "geheim12"),
        ("auth-text", 'auth = "ada:{}"', "geheim12"),
        ("positional-password", 'connect("db", "app", "{}", "shop")', "geheim12"),
        ("password-call", 'user.set_password("{}")', "geheim12"),
        ("name-and-value", 'env = [{"name": "DB_PASSWORD", "value": "{}"}]', "geheim"),
        ("shell-variable", 'run("PGPASSWORD={} psql -h db")', "geheim"),
        ("flag-password", 'run("tool --password {} go")', "geheim12"),
        ("short-flag-password", 'run("mysql -u root -p{} shop")', "geheim"),
        ("user-flag-password", 'run("curl -u ada:{} https://api.corp/x")', "geheim"),
        ("piped-password", 'run("echo {} | docker login -u ada --password-stdin")', "geheim"),
        ("sql-password", "run(\"CREATE USER ada IDENTIFIED BY '{}'\")", "geheim"),
        ("sql-insert-password", "run(\"INSERT INTO u (name, password) VALUES ('ada', '{}')\")", "geheim12"),
        ("netrc-password", 'run("machine h login ada password {}")', "geheim"),
        ("comment-password", "x = 1  # password: {}", "geheim12"),
        ("typed-password", 'find("password").send_keys("{}")', "geheim"),
        ("tool-password", 'run("htpasswd -b file ada {}")', "geheim"),
        ("line-password", '"""Sign in.\n\npassword: {}\n"""', "geheim12"),
        ("secret-default", 'key = os.environ.get("API_KEY", "{}")', hexa(32)),
        ("name-and-secret", 'env = [{"name": "API_KEY", "value": "{}"}]', hexa(32)),
        ("comment-secret", "x = 1  # api_key: {}", hexa(32)),
        ("short-secret", 'client_secret = "{}"', "geheim12"),
        ("login-call", 'client.login("ada", "{}")', "geheim12"),
        ("secret-assignment", 'SECRET_KEY = "{}"', word(30)),
        ("secret-assignment", 'api_key = "{}"', hexa(32)),
        ("random-text", 'Client("{}")', "q7Lz0" + word(40)),
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


# (rule, form, text, what must be gone from it), for rules that are not for code
OTHER_FAKES = [
    ("shell-default", Form.CONFIG, "PASS=${DB_PASSWORD:-geheim}", "geheim"),
    ("bare-password", Form.CONFIG, "db:\n  password: geheim  # new\n", "geheim"),
    ("block-password", Form.CONFIG, "db:\n  password: |\n    geheim\n", "geheim"),
    ("flag-password-bare", Form.CONFIG, "tool --password geheim run", "geheim"),
    ("bare-secret", Form.CONFIG, "API_KEY=" + "0a1b2c3d4e5f67890a1b", "0a1b2c3d4e5f67890a1b"),
    ("bare-short-secret", Form.CONFIG, "JWT_SECRET=geheim12", "geheim12"),
    ("prose-password", Form.PROSE, "Use the password geheim12 there", "geheim12"),
    ("password-assignment", Form.PROSE, "Use password='geheim' there", "geheim"),
]


@pytest.mark.parametrize(("rule", "form", "text", "secret"), OTHER_FAKES)
def test_what_is_written_without_quotes_goes_too(rule, form, text, secret):
    done = redactor().redact(text, form)
    assert rule in done.hits, done
    assert secret not in done.text
    assert redactor().redact(done.text, form).text == done.text


def test_every_rule_has_a_fake():
    assert {rule.id for rule in default_pack().rules} == {row[0] for row in (*FAKES, *OTHER_FAKES)}


@pytest.mark.parametrize(
    "text",
    [
        "password: ${DB_PASSWORD}",
        "password: !vault |",
        "password: null",
        "password:\n  type: string",
        "PASSWORD=$1",
        "PASSWORD=$(read_it)",
        'PASSWORD="$2"',
        "password = var.db_password",
        "password: *anchor",
        "password_file: /run/secrets/db",
        "password: {{ vault.db }}",
        "passwordSecretRef: name-of-it",
        "mysql -u root -p shop_name",
        "tool --password $PASSWORD",
    ],
)
def test_what_configuration_refers_to_stays(text):
    assert redactor().redact(text + "\n", Form.CONFIG).text == text + "\n"


def test_code_does_not_lose_names_that_configuration_would():
    text = "connect(user=user, password=password_of_user)\npassword: str\ndef f(password: str1): pass\n"
    assert redactor().redact(text).text == text
    assert redactor().redact("password: geheim1\n", Form.CONFIG).hits


def test_a_form_is_told_by_the_name_of_the_file():
    names = {
        Form.CONFIG: ["a/b.yaml", "x.YML", ".env", "deploy/.env.production", "Dockerfile", "run.sh", "c.toml"],
        Form.CODE: ["a.py", "b.js", "c.sql", "d.json", "odd"],
        Form.PROSE: ["README.md", "a.txt"],
    }
    assert {form: [form_of(name) for name in found] for form, found in names.items()} == {
        form: [form] * len(found) for form, found in names.items()
    }


def test_a_scan_that_goes_wrong_gives_no_text(monkeypatch):
    def broken(*_):
        raise ValueError("of the text: geheim12")

    monkeypatch.setattr("data_pipelines.redact.pack.RulePack.rules_for", broken)
    for scan in (redactor().redact, redactor().rules_that_hit):
        with pytest.raises(ScanFailed) as caught:
            scan("x = 1\n")
        assert str(caught.value) == "the scan for secrets failed: ValueError", "the cause may quote the text"


def test_keywords_that_give_no_answer_are_an_error_and_not_a_clean_text(monkeypatch):
    """RE2 reports "nothing found" when its automaton does not fit."""
    pack = RulePack((files("data_pipelines.redact.rules") / "secrets.toml").read_text())
    assert [rule.id for rule in pack.rules_for(f'"{word(40)}"'.encode(), Form.CODE)] == ["random-text"]
    assert pack.rules_for(b"x", Form.CODE) == []
    monkeypatch.setattr(pack, "_keywords", type("Silent", (), {"Match": lambda *_: None})())
    with pytest.raises(ScanFailed, match="MemoryError"):
        Redactor(RedactSection(), b"k" * 32, pack=pack).redact("x = 1\n")


def test_a_placeholder_that_a_row_cuts_is_no_finding():
    done = redactor().redact('mail = "ada.byron@corp.io"\n').text
    for end in range(len(done)):
        assert redactor().rules_that_hit(done[:end]) == ()
    assert redactor().rules_that_hit("password: REDACTED_PASSWORD_1a2b", Form.CONFIG) == ()


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
        'password = "settings.db2.password"',
        'needs = {"pbkdf2-password": "1.2.1"}',
        'cipher = "aes256-gcm@openssh.com"',
        'remote = "git@github.com:corp/shop.git"',
        'letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"',
        'model = "HuggingFaceM4/Idefics3-8B-Llama3"',
        'name = "NFCISO15693ReadMultipleBlocksConfiguration"',
        'integrity = "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="',
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
    keys = ["AKIA" + end for end in ("QWERTYUIOPASDFGH", "QWERTYUIOPASDFGH", "QWERTYUIOPASDFGJ")]
    text = "".join(f'{name} = "{key}"\n' for name, key in zip("abc", keys, strict=True))
    first, second, third = redactor().redact(text).text.split("\n")[:3]
    assert first[4:] == second[4:] != third[4:]
    assert redactor(b"other key, 32 bytes long ......").redact(text).text.split("\n")[0] != first
    assert redactor().author("A@b.io ") == redactor().author("a@b.io") != redactor(b"x" * 32).author("a@b.io")


def test_a_password_before_a_host_is_no_address():
    done = redactor().redact('proxy = "http://user:pass99@proxy.corp.com/x"\n')
    assert "@proxy.corp.com/x" in done.text
    assert "pass99" not in done.text
    text = 'proxy = "http://user:pass@proxy.corp.com/x"\n'
    assert redactor().redact(text).text == text, "no password, and no address either"


def test_an_escape_sequence_ends_a_bare_value():
    done = redactor().redact('f.write("machine h login ada password geheim\\ndefault\\n")\n')
    assert done.text.endswith('\\ndefault\\n")\n')
    assert "geheim" not in done.text


def test_what_is_switched_off_stays():
    text = 'password = "hunter2"\nmail = "ada@corp.io"\n'
    assert "hunter2" in redactor(secrets=False).redact(text).text
    assert "ada@corp.io" in redactor(emails=False).redact(text).text


def test_long_lines_take_linear_time():
    text = "password = '" + "a" * 150_000 + "\n" + "-----BEGIN PRIVATE KEY-----" * 2_000 + "://" * 20_000 + "\n"
    assert redactor().redact(text).text is not None


def test_keys_come_from_the_file_or_the_home(tmp_path):
    (tmp_path / "key").write_bytes(b"k" * 32)
    (tmp_path / "short").write_bytes(b"k")
    asked = []

    def own():
        asked.append(True)
        return b"o" * 32

    assert redaction_key(RedactSection(key_file=tmp_path / "key"), own) == b"k" * 32
    for name in ("short", "missing"):
        with pytest.raises(InputError, match=name):
            redaction_key(RedactSection(key_file=tmp_path / name), own)
    assert asked == [], "a home has no key of its own when a file is named"
    assert redaction_key(RedactSection(), own) == b"o" * 32
