"""The owner's rule of words and local paths, the stricter one, and none."""

import unicodedata

import pytest

from broker.routing.privacy.firewall import Because, Firewall
from broker.routing.privacy.indicators import Indicators, Sign, sign_in
from broker.routing.request.request import Content, Described, RequestKind
from broker.routing.text.disguise import readings
from broker.routing.text.literals import WINDOW
from broker.routing.text.work import Work


def sign_of(text: str, indicators: Indicators = Indicators.OWNER) -> Sign | None:
    found = [sign_in(read, indicators, Work()) for read in (text, *readings(text))]
    return next((sign for sign in found if sign), None)


WORDS = {
    Sign.SCREENSHOT: [
        "Here is a screenshot of my bank account", "SCREENSHOTS", "a screen shot", "Screen-Shot_3.png",
        "screen\nshot",
        "I screenshotted it", "screen grab", "a screen recording", "PrintScreen", "Bildschirmfotos",
        "captures d\u2019écran",
        "capture d'écran", "una captura de pantalla", "skärmdump", "скриншоты", "我的屏幕截图", "スクリーンショット",
        "zrzuty ekranu",
    ],
    Sign.CAMERA: [
        "the camera", "CAMERAS", "front-door webcam", "the dash cam", "useCamera()", "Kameras", "la cámara",
        "fotocamera",
        "камеры", "相机里", "カメラ", "camera's",
    ],
    Sign.PASSWORD: [
        "my password is correcthorse", "Passwords", "pass-word", "pass\nphrase", "passcodes", "PASSWD",
        "userPassword",
        "p@ssw0rd", "meine Passwörter", "Kennwort", "mots de passe", "contraseñas", "mój hasło", "мой пароль",
        "паролей",
        "我的密码", "パスワード", "비밀번호", "unsere Passwo\u0308rter",
    ],
    Sign.CREDENTIAL: [
        "my credentials", "Credential", "getCredentials()", "Zugangsdaten", "credenziali", "учётные данные", "認証情報",
    ],
}  # fmt: skip


@pytest.mark.parametrize("sign, text", [(sign, text) for sign, texts in WORDS.items() for text in texts])
def test_a_word_of_the_owners_is_seen_in_any_form_and_named(sign, text):
    assert sign_of(text) is sign
    assert sign_of("x " * 40 + text.upper() + " and more") is sign
    assert sign_of(unicodedata.normalize("NFD", text)) is sign
    assert sign_of("\u200b".join(text)) is sign


PATHS = [
    "/home/anna/diary/2026-11-21.md", "see /home/anna/x.", "`/home/anna`", '"/home/anna"', "(/home/anna)",
    "cwd=/home/anna",
    "cwd:/home/anna", "gpu:/home/anna/x", "gcc -I/home/anna/include", "docker run -v /home/anna:/data",
    "-d @/home/anna/x",
    "@/home/anna/notes.md", "我的/home/anna/日记.md", r"cwd\n/home/anna", "../../home/anna", "/var/home/anna/x",
    "/usr/home/anna", "/export/home/anna", "/volume1/homes/anna", "/Users/anna/Documents",
    "/users/anna/Desktop/x.txt",
    r"C:\Users\Anna\x.txt", "c:/Users/anna", r"C:\\Users\\anna\\x", r"D:\photos\2026", r"Users\anna\AppData",
    "/c/Users/anna",
    "/mnt/c/Users/anna", "~/notes.md", "~anna/notes.md", r"~\notes.md", "PATH=~/bin", "/root/x", "ls /root",
    "cd /root.",
    "file:///etc/hosts", "open file://", "FILE:/C:/x", "smb://nas/anna", r"\\nas\anna\diary.txt",
    r"\\\\nas\\anna\\diary.txt",
    "/mnt/nas/photos", "/media/anna/USB", "/run/media/anna/x", "/Volumes/Backup/x", "/sdcard/DCIM/x",
    "/storage/emulated/0/x", "$HOME/diary", "${HOME}/diary", r"%USERPROFILE%\x", r"$env:USERPROFILE\x",
    "//home/anna/x", "/home//anna/x", "vscode-remote://wsl/home/anna/x", "sftp://nas/home/anna/x",
    "%2Fhome%2Fanna%2Fdiary.md", "\uff0fhome\uff0fanna",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_a_local_path_is_seen_wherever_it_stands(path):
    assert sign_of(path) is Sign.LOCAL_PATH
    assert sign_of(f"please read {path} for me") is Sign.LOCAL_PATH


ORDINARY = [
    "src/home/page.ts", "https://example.org/home/anna", "https://example.org/Users/1", "api/Users/5",
    "GET /users/42",
    "import Hero from '../home/Hero'", "@/components/home/Hero", "./home/x", "http://example.org/~anna/", "HEAD~1",
    "x ~= 3", "/rootfs/x", "app/root", "~1.2.3", r"\d+\.\d+", r"'a:\n'", "`${base}/home/x`", "std::x", "a:b/c",
    "s3://bucket/home/x", "/usr/bin/env python", "/etc/hosts", "/tmp/x", "bicameral and unicameral",
    "it may pass words on",
    "screens and shots", "print(screen)", "remote", "a password".replace("password", "pass"), "https://x/y:z",
]  # fmt: skip


@pytest.mark.parametrize("text", [text for text in ORDINARY if text != "it may pass words on"])
def test_what_only_looks_like_it_may_leave(text):
    assert sign_of(text) is None


@pytest.mark.parametrize("before", [0, 1, WINDOW - 12, WINDOW - 3, WINDOW, 3 * WINDOW + 7])
@pytest.mark.parametrize("letter", ["x", "ä"])
def test_how_a_text_falls_into_windows_changes_nothing(before, letter):
    for said in ("screen\nshot", "contraseñas", "/home/anna/x", r"D:\photos\x", "mots de passe"):
        assert sign_of(letter * before + " " + said + " " + "so many words " * 20)


STRICTLY = {
    Sign.SECRET: "a secret", Sign.MONEY: "my bank account", Sign.HEALTH: "the diagnosis",
    Sign.IDENTITY: "passport no",
    Sign.PRIVATE: "confidential", Sign.RECORDING: "my photos", Sign.ANY_PATH: "see /etc/nginx/nginx.conf",
    Sign.EMAIL: "to anna@example.org", Sign.PHONE: "call +49 170 1234567", Sign.HOST: "at 192.168.1.17",
}  # fmt: skip


@pytest.mark.parametrize("sign", STRICTLY)
def test_the_strict_rule_sees_more_and_off_sees_nothing(sign):
    text = STRICTLY[sign]
    assert (sign_of(text), sign_of(text, Indicators.STRICT)) == (None, sign)
    assert sign_of(text + " /home/anna/x my password", Indicators.OFF) is None


@pytest.mark.parametrize(
    "number", ["DE44 5001 0517 5407 3249 31", "4111 1111 1111 1111", "4111-1111-1111-1111", "078-05-1120"]
)
def test_the_strict_rule_knows_numbers_of_accounts(number):
    assert sign_of(f"it is {number} here", Indicators.STRICT) is Sign.ACCOUNT


def test_a_secret_is_told_before_a_word():
    firewall = Firewall(find_secret=lambda _: False)
    for text, because in (
        ("password: hunter22", Because.CREDENTIAL),
        ("cat ~/.ssh/config", Because.PATH),
        ("a password", Sign.PASSWORD),
    ):
        request = Described(name="auto", kind=RequestKind.CHAT, content=Content(texts=(text,)))
        assert firewall.because(request, session_private=False, name_private=False) is because
