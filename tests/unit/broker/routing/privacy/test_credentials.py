"""Passwords, keys and tokens as people, programs and files write them; and what only looks like one."""

import pytest

from broker.routing.privacy.credentials import holds_a_credential
from broker.routing.text.work import Work

WRITTEN = {
    "blanks": ["password = hunter22", "DB_PASSWORD = hunter22\n", "secret_key = x9#kkkk", "SECRET KEY: abc123x",
               "token : abc123def", "password := hunter22", "password => hunter22", "password \t=\t hunter22",
               "the token was abc123de", "pass: hunter22", "pw = hunter22", "PIN: 4711", "TOKEN=abc123def"],
    "flags": ["--password correcthorse", "psql --password=correcthorse -U x", "tool --api-key abcd1234efgh",
              "--client-secret correcthorse", "curl -u anna:hunter22 https://x", "curl --user anna:hunter22",
              "mysql -u root -phunter22 db", "sshpass -p hunter ssh x", "docker login -u a -p hunter22",
              "openssl x -passin pass:hunter2"],
    "tables": ["| password | hunter22 |", "| **Password** | `hunter22` |", "password    hunter22",
               "| user | password |\n|---|---|\n| anna | hunter22 |", "user,password\nanna,hunter22\n",
               "user;Passwort\nanna;hunter22\n", "user\tpassword\nanna\thunter22",
               "name      password\n----      --------\nanna      hunter22\n", "id,api_key,x\n1,abc123def,2\n"],
    "letters only": ["password='correcthorse'", '{"password": "correcthorse"}', "<password>correcthorse</password>",
                     'secret_key = "correcthorse"', "password: 12345678", "psk='correcthorse'"],
    ".netrc": ["machine h\nlogin a\npassword b","machine api.x login anna password hunter",
    "machine x\n  login anna\n  password correcthorse\n",
               "machine x password correcthorse", "default login a password b1"],
    "connections": ["Server=db;User Id=sa;Password=secret;", "host=db user=anna password=correcthorse dbname=x",
                    "Password=abc;Server=x", "jdbc:mysql://h/db?user=anna&password=correct",
                    "redis://:hunter22@host",
                    "postgres://a:b@h", "AccountKey=ab12cd34==;EndpointSuffix=x", "Uid=sa; Pwd=correct;"],
    "files": ["password:\n  hunter22", "password: >-\n    hunter22", '"password" : "hunter22"',
    "[db]\npassword = hunter22\n",
              "<password>hunter22</password>", '<add key="Password" value="hunter22"/>',
              "- name: DB_PASSWORD\n  value: hunter22", '{"name": "password", "value": "hunter22"}',
              "  password: hunter22 # x",
              "PrivateKey = yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=", "anna:$6$abc$defghijklmnop",
              "PuTTY-User-Key-File-3: ssh-ed25519", "Cookie: session=0123456789abcdef0"],
    "headers": ["bearer abcdef1234567890", "Authorization: Basic YW5uYTpodW50ZXIy", "X-Api-Key: abcdef123456"],
    "languages": ["Passwort: hunter22", "Das Kennwort lautet hunter22", "mot de passe : hunter22",
    "contraseña: hunter22",
                  "пароль: hunter22", "密码: hunter22"],
}  # fmt: skip


@pytest.mark.parametrize("text", [text for texts in WRITTEN.values() for text in texts])
def test_a_value_with_its_name_is_a_credential_however_it_is_written(text):
    assert holds_a_credential(text, Work())
    assert holds_a_credential("so many words\n" * 30 + text + "\nand more\n", Work())


CODE = [
    "token = next_token2()", "password = get_password1()", 'secret_key = os.environ["X1"]',
    "api_key = settings.api_key2",
    "token = tokens[0]", "token = token2", "secret = sha256", "token = tokens2 if x else y",
    "password: str = Field(min_length=8)",
    "token: Token | None", "token = m.group(1)", "secret: Option<Vec<u8>>", "connect(user=user, password=password)",
    "def f(user, password,\n    x2):", "process.env.TOKEN", "tokens = tokenizer.encode(text)", "max_tokens=100000",
    "token_count = 12345", "api_key: ${API_KEY}", "x-api-key: <key>", "--token TOKEN", "--password $PW",
    "--max-tokens 4096",
    "--password-file /x/y1", "--tokenizer gpt2", "the --token flag", "use --password to log in",
    "docker run -u 1000:1000 x",
    "| Token | Meaning |\n|---|---|\n| `x1` | a |", "| password | string | required |", "https://example.org/a:b@c",
    "the password policy of 2024", 'password = "password"', '"password": "string"', 'api_key="YOUR_API_KEY"',
    "<password>string</password>",
    "password_field = 'passwordInput'.strip()", "bearer tokens are sent", "pw = pw[:-1]",
    "as a single-pass loop. ([#974]", 'words("secret*", "api key*")',
    "password: ***hidden***",
]  # fmt: skip


@pytest.mark.parametrize("text", CODE)
def test_names_without_a_value_and_values_of_programs_are_none(text):
    assert not holds_a_credential(text, Work())
