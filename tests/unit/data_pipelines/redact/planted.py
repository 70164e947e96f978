"""Made-up secrets in made-up files of eight types: what the recall of the scanner is measured on.

Each value is assembled from random letters here, apart from the rules and from their own examples; none was ever valid.
"""

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import quote

UPPER, LOWER, DIGITS, HEX = "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz", "0123456789", "0123456789abcdef"
ALPHANUMERIC = UPPER + LOWER + DIGITS
BASE64 = ALPHANUMERIC + "+/"
URL64 = ALPHANUMERIC + "_-"
FILE_TYPES = {
    "py": "service/settings.py",
    "js": "web/config.js",
    "yaml": "deploy/values.yaml",
    "json": "config/app.json",
    "toml": "config/app.toml",
    "env": "deploy/.env",
    "sh": "scripts/start.sh",
    "sql": "db/setup.sql",
}
WORD_LIST = (
    "hunter dragon summer winter monkey coffee orange guitar silver falcon garden pepper sunshine banana rocket tiger"
    " castle purple marble wizard shadow cookie thunder ginger pirate turtle velvet walnut hammer candle"
)
WORDS = WORD_LIST.split()


@dataclass(frozen=True, slots=True)
class Planted:
    """One file with one secret; pieces are what must be gone from it. claimed: the scanner says that it finds this."""

    kind: str
    file_type: str
    text: str
    pieces: tuple[str, ...]
    is_password: bool
    claimed: bool

    @property
    def path(self) -> str:
        return FILE_TYPES[self.file_type]


class Maker:
    """Random texts of an alphabet and a length."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def chars(self, length: int, alphabet: str = ALPHANUMERIC) -> str:
        return "".join(self.random.choice(alphabet) for _ in range(length))

    def word(self) -> str:
        return self.random.choice(WORDS)

    def pem(self, label: str, lines: int = 8) -> str:
        body = "\n".join(self.chars(64, BASE64) for _ in range(lines))
        return f"-----BEGIN {label}-----\n{body}\n-----END {label}-----"


# kind: (the name that a person gives the variable, what makes the value); a value that only its name tells is NAMED
TOKENS: dict[str, tuple[str, Callable[[Maker], str]]] = {
    "AWS key id": ("aws_access_key_id", lambda m: "AKIA" + m.chars(16, UPPER + "234567")),
    "AWS secret key": ("aws_secret_access_key", lambda m: m.chars(40, BASE64)),
    "GitHub classic": ("github_token", lambda m: "ghp_" + m.chars(36)),
    "GitHub app": ("installation", lambda m: "ghs_" + m.chars(36)),
    "GitHub fine-grained": ("pat", lambda m: f"github_pat_{m.chars(22)}_{m.chars(59)}"),
    "GitLab": ("gitlab", lambda m: "glpat-" + m.chars(20, URL64)),
    "GitLab runner": ("runner", lambda m: "glrt-" + m.chars(20, URL64)),
    "Slack bot": ("slack", lambda m: f"xoxb-{m.chars(12, DIGITS)}-{m.chars(12, DIGITS)}-{m.chars(24)}"),
    "Slack app": ("slack_app", lambda m: f"xapp-1-A{m.chars(10, UPPER)}-{m.chars(13, DIGITS)}-{m.chars(64, HEX)}"),
    "Slack webhook": (
        "hook",
        lambda m: f"https://hooks.slack.com/services/T{m.chars(9, UPPER)}/B{m.chars(9, UPPER)}/{m.chars(24)}",
    ),
    "Discord webhook": (
        "hook",
        lambda m: f"https://discord.com/api/webhooks/1{m.chars(17, DIGITS)}/{m.chars(68, URL64)}",
    ),
    "Discord bot": ("discord_bot_token", lambda m: f"M{m.chars(25)}.{m.chars(6)}.{m.chars(38)}"),
    "Telegram bot": ("bot", lambda m: f"{m.random.randrange(10**8, 10**10)}:AA{m.chars(33)}"),
    "Stripe": ("stripe", lambda m: "sk_live_" + m.chars(24)),
    "Stripe restricted": ("billing", lambda m: "rk_live_" + m.chars(24)),
    "Google API": ("maps", lambda m: "AIza" + m.chars(35)),
    "Google client secret": ("google", lambda m: "GOCSPX-" + m.chars(28)),
    "Model provider, project": ("model", lambda m: "sk-proj-" + m.chars(64)),
    "Model provider, api03": ("model", lambda m: "sk-ant-api03-" + m.chars(95)),
    "Model hub": ("hub", lambda m: "hf_" + m.chars(34, UPPER + LOWER)),
    "Model host": ("groq", lambda m: "gsk_" + m.chars(52)),
    "Python index": ("upload", lambda m: "pypi-AgEI" + m.chars(120)),
    "Node registry": ("registry", lambda m: "npm_" + m.chars(36)),
    "Ruby registry": ("gems", lambda m: "rubygems_" + m.chars(48, HEX)),
    "SendGrid": ("mail", lambda m: f"SG.{m.chars(22)}.{m.chars(43)}"),
    "Mailgun": ("mail", lambda m: "key-" + m.chars(32, HEX)),
    "Mailchimp": ("mail", lambda m: m.chars(32, HEX) + "-us12"),
    "Twilio": ("sms", lambda m: "SK" + m.chars(32, HEX)),
    "Databricks": ("warehouse", lambda m: "dapi" + m.chars(32, HEX)),
    "DigitalOcean": ("cloud", lambda m: "dop_v1_" + m.chars(64, HEX)),
    "Shopify": ("shop", lambda m: "shpat_" + m.chars(32, HEX)),
    "Vault": ("vault", lambda m: "hvs." + m.chars(92)),
    "Terraform cloud": ("terraform", lambda m: f"{m.chars(14)}.atlasv1.{m.chars(66)}"),
    "Docker hub": ("docker", lambda m: "dckr_pat_" + m.chars(27)),
    "Linear": ("tracker", lambda m: "lin_api_" + m.chars(40)),
    "Grafana": ("grafana", lambda m: f"glsa_{m.chars(32)}_{m.chars(8, HEX)}"),
    "Atlassian": ("jira", lambda m: "ATATT3" + m.chars(180)),
    "New Relic": ("apm", lambda m: "NRAK-" + m.chars(27, UPPER + DIGITS)),
    "Postman": ("api", lambda m: f"PMAK-{m.chars(24, HEX)}-{m.chars(34, HEX)}"),
    "Figma": ("design", lambda m: "figd_" + m.chars(40)),
    "JWT": ("session", lambda m: f"eyJ{m.chars(33)}.eyJ{m.chars(80)}.{m.chars(43, URL64[:-1])}"),
    "age key": ("age", lambda m: "AGE-SECRET-KEY-1" + m.chars(58, "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L")),
    "Azure storage": (
        "storage",
        lambda m: f"DefaultEndpointsProtocol=https;AccountName={m.word()};AccountKey={m.chars(86, BASE64)}==",
    ),
    "Bearer header": ("header", lambda m: "Bearer " + m.chars(40)),
    "API key without a prefix": ("api_key", lambda m: m.chars(32, HEX)),
    "session key": ("secret_key", lambda m: m.chars(50)),
    "access token": ("access_token", lambda m: m.chars(40)),
}
NAMED = {"AWS secret key", "Discord bot", "API key without a prefix", "session key", "access token"}
PEM_LABELS = {
    "RSA key": "RSA PRIVATE" + " KEY",
    "EC key": "EC PRIVATE" + " KEY",
    "PKCS8 key": "PRIVATE" + " KEY",
    "OpenSSH key": "OPENSSH PRIVATE" + " KEY",
    "PGP key": "PGP PRIVATE" + " KEY BLOCK",
}

# per file type, texts with the name of a variable and with the value alone
NAMED_CONTEXTS = {
    "py": (
        '{N} = "{v}"',
        "{n}: str = '{v}'",
        'client = open_client(region="eu", {n}="{v}")',
        'settings = {{"region": "eu", "{n}": "{v}"}}',
        '{n} = os.environ.get("{N}", "{v}")',
        "# {n}: {v}",
    ),
    "js": (
        'const {n} = "{v}";',
        "start({{ region: 'eu', {n}: '{v}' }});",
        "const {n} = process.env.{N} || '{v}';",
        "// {n} = {v}",
    ),
    "yaml": (
        "app:\n  {n}: {v}",
        'app:\n  {n}: "{v}"',
        "env:\n  - name: {N}\n    value: {v}",
        "app: {{region: eu, {n}: '{v}'}}",
        "# {n}: {v}\na: 1",
    ),
    "json": ('{{"app": {{"region": "eu", "{n}": "{v}"}}}}', '{{"env": [{{"name": "{N}", "value": "{v}"}}]}}'),
    "toml": ('[app]\n{n} = "{v}"', "app = {{ region = 'eu', {n} = '{v}' }}"),
    "env": ("{N}={v}", 'export {N}="{v}"', "REGION=eu\n{N}='{v}'"),
    "sh": ("export {N}={v}", '{N}="{v}" ./run.sh', "{N}={v} ./run.sh --now", "# {N}={v}"),
    "sql": ("UPDATE settings SET {n} = '{v}' WHERE id = 1;", "-- {n}: {v}"),
}
BARE_CONTEXTS = {
    "py": ('run("{v}")', 'line = f"{{user}} sends {v}"', "# try {v} when it fails", 'rows = [1, "{v}"]'),
    "js": ("run(`{v}`);", "const rows = [1, '{v}'];", "/* try {v} */"),
    "yaml": ('args: ["run", "{v}"]', "steps:\n  - run: |\n      call {v} now"),
    "json": ('{{"args": ["run", "{v}"]}}', '{{"note": "try {v} then"}}'),
    "toml": ('args = ["run", "{v}"]', 'note = """\ntry {v} then"""'),
    "env": ('ARGS="run {v}"', "# try {v}"),
    "sh": ('curl -H "X-Auth: {v}" "$HOST"', "run --with '{v}'", "cat <<END\n{v}\nEND"),
    "sql": ("INSERT INTO settings (name, value) VALUES ('x', '{v}');", "SELECT call('{v}');"),
}
# {b} is the key over several lines, {e} with \n written out, {i} indented
PEM_CONTEXTS = {
    "py": ('KEY = """{b}"""', 'load("{e}")', "KEY = '''\\\n{b}\n'''"),
    "js": ("const key = `{b}`;", "load('{e}');"),
    "yaml": ("tls:\n  key: |\n{i}", 'tls:\n  key: "{e}"'),
    "json": ('{{"tls": {{"key": "{e}"}}}}',),
    "toml": ('key = """\n{b}\n"""', 'key = "{e}"'),
    "env": ('TLS_KEY="{e}"', 'TLS_KEY="{b}"'),
    "sh": ("cat > key <<END\n{b}\nEND", "KEY='{b}'"),
    "sql": ("INSERT INTO keys VALUES ('{b}');",),
}
# kind of place: per file type, texts with the password {p} and, for addresses of hosts, its escaped form {u}
PASSWORD_CONTEXTS: dict[str, dict[str, tuple[str, ...]]] = {
    "assignment": {
        "py": ('DB_PASSWORD = "{p}"', "smtp_pass = '{p}'", 'self.password = "{p}"', 'admin_pw = ("{p}")'),
        "js": ('const dbPassword = "{p}";', "let userPass = '{p}';", "config.db.password = `{p}`;"),
        "toml": ('[db]\npassword = "{p}"', "db = {{ user = 'app', passwd = '{p}' }}"),
        "sql": ("UPDATE users SET password = '{p}' WHERE name = 'ada';", "SELECT * FROM u WHERE pwd = '{p}';"),
    },
    "annotated assignment": {
        "py": (
            'db_password: str = "{p}"',
            "password: Final[str] = '{p}'",
            'password: SecretStr = SecretStr("{p}")',
            'password: str = Field(default="{p}", min_length=3)',
        ),
        "js": ('/** @type {{string}} */ const password = "{p}";',),
    },
    "keyword argument": {"py": ('connect("db", user="app", password="{p}")', "open_db(passwd='{p}', port=1)")},
    "positional argument": {
        "py": (
            'client.login("ada", "{p}")',
            'requests.get(url, auth=("ada", "{p}"))',
            'db = MySQLdb.connect("db", "app", "{p}", "shop")',
            'user.set_password("{p}")',
            "User.objects.create_user('ada', 'a@example.com', '{p}')",
        ),
        "js": ("client.login('ada', '{p}');", "user.setPassword('{p}');", "db.connect('h', 'app', '{p}');"),
    },
    "dictionary": {
        "py": ('config = {{"user": "app", "password": "{p}"}}', "config['db_pass'] = '{p}'"),
        "js": ("const db = {{ user: 'app', password: '{p}' }};", 'const db = {{ "pass": "{p}" }};'),
        "json": ('{{"db": {{"user": "app", "password": "{p}"}}}}', '{{"a": [{{"smtp": {{"pass": "{p}"}}}}]}}'),
    },
    "default": {
        "py": (
            'password = os.environ.get("DB_PASSWORD", "{p}")',
            "secret = os.getenv('ADMIN_PASSWORD') or '{p}'",
            'parser.add_argument("--password", default="{p}")',
        ),
        "js": ("const pw = process.env.DB_PASSWORD || '{p}';", "const pw = env.DB_PASSWORD ?? '{p}';"),
        "sh": ('PASS="${{DB_PASSWORD:-{p}}}"',),
    },
    "connection URL": {
        "py": ('URL = "postgresql://app:{u}@db.corp/shop"', 'url = f"redis://:{u}@{{host}}:6379/0"'),
        "js": ('const url = "mongodb://app:{u}@db.corp/shop";', "const url = `amqp://app:{u}@${{host}}/`;"),
        "yaml": ("url: postgres://app:{u}@db/shop",),
        "json": ('{{"url": "mysql://app:{u}@db/shop"}}',),
        "toml": ('url = "https://app:{u}@packages.corp/simple"',),
        "env": ("DATABASE_URL=postgres://app:{u}@db:5432/shop",),
        "sh": ("git clone https://ada:{u}@code.corp/shop.git",),
        "sql": ("CREATE SUBSCRIPTION s CONNECTION 'postgres://app:{u}@db/shop' PUBLICATION p;",),
    },
    "connection string": {
        "py": ('dsn = "host=db user=app password={u} dbname=shop"', 'dsn = "Server=db;Uid=app;Pwd={u};"'),
        "js": ('const dsn = "jdbc:db://h/x?user=a&password={u}";',),
        "json": ('{{"db": "Server=db;User Id=app;Password={u};"}}',),
        "env": ('DSN="host=db user=app password={u}"',),
        "sql": ("SELECT dblink_connect('host=db user=app password={u}');",),
    },
    "bare value": {
        "yaml": ("db:\n  user: app\n  password: {p}", "db: {{user: app, password: {p}}}", "smtp_pass: {p}  # change"),
        "env": ("DB_PASSWORD={p}", "SMTP_PASS={p}", "ADMIN_PW={p}"),
        "sh": ("DB_PASSWORD={p}", "PGPASSWORD={p} psql -h db"),
    },
    "quoted value": {
        "yaml": ('db:\n  password: "{p}"', "db:\n  passwd: '{p}'"),
        "env": ('DB_PASSWORD="{p}"',),
        "sh": ("DB_PASSWORD='{p}'",),
    },
    "name and value": {
        "yaml": ("env:\n  - name: DB_PASSWORD\n    value: {p}", 'env:\n  - name: DB_PASSWORD\n    value: "{p}"'),
        "json": ('{{"env": [{{"name": "DB_PASSWORD", "value": "{p}"}}]}}',),
    },
    "block scalar": {"yaml": ("db:\n  password: |\n    {p}", "db:\n  password: >-\n    {p}")},
    "export": {"sh": ("export DB_PASSWORD={p}", "export SMTP_PASS='{p}'"), "env": ("export DB_PASSWORD={p}",)},
    "flag": {
        "sh": (
            "mysql -u root -p{p} shop",
            "mysqldump -u root -p'{p}' shop > out",
            "sshpass -p {p} ssh ada@host",
            "tool --user ada --password {p}",
            "tool --password={p} run",
            "curl -u ada:{p} https://api.corp/x",
            "docker login -u ada -p {p} registry.corp",
            "echo '{p}' | docker login -u ada --password-stdin",
        ),
        "py": ('run(["tool", "--password", "{p}"])', 'os.system("mysql -u root -p{p} shop")'),
        "yaml": ("steps:\n  - run: tool --password={p} go",),
    },
    "SQL": {
        "sql": (
            "CREATE USER ada IDENTIFIED BY '{p}';",
            "CREATE ROLE ada LOGIN PASSWORD '{p}';",
            "ALTER USER ada WITH ENCRYPTED PASSWORD '{p}';",
            "CREATE LOGIN ada WITH PASSWORD = '{p}';",
            "SET PASSWORD FOR 'ada'@'%' = PASSWORD('{p}');",
        ),
        "py": ("cursor.execute(\"CREATE USER ada IDENTIFIED BY '{p}'\")",),
    },
    "comparison": {"py": ('ok = password == "{p}"',), "js": ("if (password === '{p}') go();",)},
    "client secret": {"py": ('client_secret = "{p}"',), "yaml": ('client_secret: "{p}"',)},
}
# written when the rules for those above were done, to see what they miss
LATER_CONTEXTS: dict[str, dict[str, tuple[str, ...]]] = {
    "item assignment": {
        "py": (
            'os.environ["DB_PASSWORD"] = "{p}"',
            'app.config["MAIL_PASSWORD"] = "{p}"',
        ),
        "js": ("process.env.DB_PASSWORD = '{p}';",),
        "toml": ('db.password = "{p}"',),
    },
    "nested dictionary": {
        "py": (
            'DATABASES = {{"default": {{"USER": "x", "PASSWORD": "{p}"}}}}',
            'data = dict(user="ada", pwd="{p}")',
        ),
        "json": ('{{"a":{{"b":{{"password":"{p}"}}}}}}',),
    },
    "docstring": {
        "py": (
            '"""Sign in.\n\nuser: ada\npassword: {p}\n"""',
            '"""\n>>> login("ada", "{p}")\n"""',
            'USAGE = """\nDB_PASSWORD={p}\n"""',
        )
    },
    "several lines": {
        "py": (
            'connect(\n    "db",\n    "app",\n    "{p}",\n)',
            'connect(\n    password=(\n        "{p}"\n    ),\n)',
            'client.login(\n    "ada", "{p}"\n)',
        ),
        "js": ("db.connect(\n  'db',\n  'app',\n  '{p}',\n);",),
    },
    "form filling": {
        "py": (
            'page.fill("#password", "{p}")',
            'find("password").send_keys("{p}")',
        ),
        "js": (
            "cy.get('#password').type('{p}');",
            "await page.fill('input[name=password]', '{p}');",
        ),
    },
    "class of settings": {
        "py": (
            'class Settings:\n    db_password = "{p}"',
            'password: Optional[str] = "{p}"',
            'password = os.getenv("DB_PASS", default="{p}")',
            'PASSWORD = "{p}" if debug else None',
        )
    },
    "pair": {
        "py": (
            'auth = HTTPBasicAuth("ada", "{p}")',
            'keyring.set_password("svc", "ada", "{p}")',
            'session.auth = ("ada", "{p}")',
            "credentials = ('ada', '{p}')",
        ),
        "js": (
            "axios.get(u, {{ auth: {{ username: 'ada', password: '{p}' }} }});",
            "new Sequelize('db', 'app', '{p}', {{}});",
        ),
    },
    "compose list": {
        "yaml": (
            "environment:\n  - DB_PASSWORD={p}\n  - X=1",
            "environment:\n  MYSQL_ROOT_PASSWORD: {p}",
            "password: &pw {p}",
            "stringData:\n  admin-password: {p}",
            "command: redis-server --requirepass {p}",
        )
    },
    "more flags": {
        "sh": (
            "htpasswd -b file ada {p}",
            "openssl rsa -passin pass:{p} -in k",
            "echo {p} | sudo -S ls",
            "export PASS={p} USER=x",
            "PASS={p}; run",
            "smbclient -U ada%{p} //h/s",
            "redis-cli -h db -a {p} ping",
            "docker run -e DB_PASSWORD={p} image",
            'psql "host=db user=a password={p}"',
            "mongo --username a --password '{p}'",
            "kubectl create secret generic s --from-literal=password={p}",
            "unzip -P {p} a.zip",
        )
    },
    "more SQL": {
        "sql": (
            "CREATE USER MAPPING FOR ada SERVER s OPTIONS (user 'ada', password '{p}');",
            "SELECT crypt('{p}', gen_salt('bf'));",
            "INSERT INTO users SET name='ada', password='{p}';",
            "GRANT ALL ON *.* TO 'a'@'%' IDENTIFIED BY '{p}';",
            "ALTER LOGIN sa WITH PASSWORD = N'{p}';",
            'ALTER USER scott IDENTIFIED BY "{p}";',
            "SET @password = '{p}';",
            "CREATE USER ada PASSWORD '{p}';",
        )
    },
    "more env": {
        "env": (
            "MYSQL_PWD={p}",
            "spring.datasource.password={p}",
            "REDIS_PASSWORD = {p}",
            "JWT_SECRET={p}",
            "ADMIN_USER_PASS={p}",
        )
    },
    "more TOML": {
        "toml": (
            '[users.ada]\npass = "{p}"',
            'users = [{{ name = "ada", password = "{p}" }}]',
            'secret = "{p}"',
        )
    },
    "more JSON": {
        "json": (
            '{{"users": [{{"name": "ada", "Password": "{p}"}}]}}',
            '{{"auth": "ada:{p}"}}',
            '{{"proxy": "http://ada:{u}@proxy:3128"}}',
            '{{"dbPassword": "{p}", "x": 1}}',
            '{{"env": {{"PGPASSWORD": "{p}"}}}}',
            '{{"name": "password", "type": "text", "value": "{p}"}}',
        )
    },
    "more JS": {
        "js": (
            "const {{ password = '{p}' }} = options;",
            "this.password = '{p}';",
            "export const PASSWORD = `{p}`;",
            "bcrypt.hashSync('{p}', 10);",
            "localStorage.setItem('password', '{p}');",
        )
    },
}
# a comment names it, or a place says nothing that a rule can read: found in part, and not claimed
UNCLAIMED_CONTEXTS: dict[str, dict[str, tuple[str, ...]]] = {
    "comment": {
        "py": ("# password: {p}", "x = 1  # the password of staging is {p}"),
        "js": ("// password = {p}",),
        "sh": ("# password: {p}",),
        "sql": ("-- password: {p}",),
    },
    "insert": {"sql": ("INSERT INTO users (name, password) VALUES ('ada', '{p}');",)},
    "unusual place": {
        "sh": ("read x <<< '{p}'",),
        "env": ("LOGIN=ada:{p}",),
        "js": ("app.use(basicAuth({{ users: {{ 'admin': '{p}' }} }}));",),
    },
    "no name at hand": {
        "py": ('accounts = {{"ada": "{p}"}}', 'users = [("ada", "{p}")]'),
        "js": ("open('ada', '{p}');",),
        "sql": ("INSERT INTO users VALUES (1, 'ada', '{p}');",),
    },
}


def password(make: Maker) -> str:
    """What a person thinks of: words, a year, a sign; never random letters."""
    draw, word = make.random, make.word()
    year, sign = draw.randrange(1980, 2027), draw.choice("!?.#@+")
    return draw.choice(
        (
            f"{word}{draw.randrange(1, 100)}",
            f"{word.capitalize()}{year}{sign}",
            f"{word}-{make.word()}-{make.word()}",
            f"{word.capitalize()}_{draw.randrange(10, 100)}",
            word.replace("e", "3").replace("a", "4").capitalize() + f"{sign}{draw.randrange(1, 10)}",
            f"{make.word()}{word.capitalize()}{year % 100}",
        )
    )


def tokens(seed: int, *, draws: int) -> Iterator[Planted]:
    """Each kind in each file type, draws times, in changing contexts."""
    make = Maker(seed)
    for kind, (name, value_of) in TOKENS.items():
        for file_type in FILE_TYPES:
            known = NAMED_CONTEXTS[file_type] + (() if kind in NAMED else BARE_CONTEXTS[file_type])
            for context in _drawn(make, known, draws):
                value = value_of(make)
                text = context.format(n=name, N=name.upper(), v=value)
                yield Planted(kind, file_type, surround(file_type, text), (_core(value),), False, True)
    for kind, label in PEM_LABELS.items():
        for file_type, contexts in PEM_CONTEXTS.items():
            for context in _drawn(make, contexts, draws):
                key = make.pem(label)
                indented = "\n".join("    " + line for line in key.split("\n"))
                text = context.format(b=key, e=key.replace("\n", "\\n"), i=indented)
                yield Planted(kind, file_type, surround(file_type, text), tuple(key.split("\n")[1:-1]), False, True)


def passwords(seed: int, *, draws: int) -> Iterator[Planted]:
    """Each context draws times, each with a password of its own."""
    make = Maker(seed + 1)
    for table, claimed in ((PASSWORD_CONTEXTS, True), (LATER_CONTEXTS, True), (UNCLAIMED_CONTEXTS, False)):
        for kind, by_type in table.items():
            for file_type, contexts in by_type.items():
                for context in contexts * draws:
                    chosen = password(make)
                    text = context.format(p=chosen, u=quote(chosen, safe="!.+"))
                    pieces = (quote(chosen, safe="!.+") if "{u}" in context else chosen,)
                    yield Planted(kind, file_type, surround(file_type, text), pieces, True, claimed)


def surround(file_type: str, text: str) -> str:
    """The text as a whole file."""
    before, after = {
        "py": ("import os\n\n\n", "\nLAST = 1\n"),
        "js": ("'use strict';\n", "\nlast();\n"),
        "yaml": ("version: 2\n", "\nlast: 1\n"),
        "json": ("", "\n"),
        "toml": ("version = 2\n", "\n"),
        "env": ("STAGE=eu\n", "\nLAST=1\n"),
        "sh": ("set -eu\n", "\nexit 0\n"),
        "sql": ("BEGIN;\n", "\nCOMMIT;\n"),
    }[file_type]
    if file_type == "json":
        json.loads(text)
    return before + text + after


def _core(value: str) -> str:
    """The part of a value that is secret by itself."""
    return value.removeprefix("Bearer ").rpartition("services/")[2].rpartition("webhooks/")[2].rpartition("Key=")[2]


def _drawn(make: Maker, contexts: tuple[str, ...], number: int) -> list[str]:
    return [make.random.choice(contexts) for _ in range(number)]
